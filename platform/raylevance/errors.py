"""The two errors a user can cause. The command line prints either as one line and exits.

Raise them with the file, the row or the setting at fault and what to do about it. Everything else
that is raised is a defect of ours and keeps its traceback.
"""

from difflib import get_close_matches


class RaylevanceError(Exception):
    """The work can't be done: bad data, a missing artifact, a full disk, a port in use (exit 1)."""


class UsageError(RaylevanceError):
    """The request makes no sense: an unknown setting, recipe or option value (exit 2)."""


def nearest(word: str, known: list[str]) -> str:
    """The hint that follows an unknown word: the closest of `known`, else all of them."""
    match = get_close_matches(word, known, n=1, cutoff=0.5)
    if match:
        return f"did you mean {match[0]!r}?"
    return f"known: {', '.join(sorted(known))}" if known else "there are none"
