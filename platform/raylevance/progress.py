"""Lines that tell a person on the terminal how far the work is, on stderr: stdout is for results."""

import sys


def status(line: str) -> None:
    """Write one line of progress to stderr at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
