"""A leg of a benchmark: a command in a process of its own, with its figures and the peak of its memory."""

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import psutil


def run_leg(command: Sequence[str]) -> dict[str, Any]:
    """Run `command`, and return the JSON of its last line with `peak_mib`.

    That is the most memory (proportional set size, MiB) of its process and its children, Ray's among them, at any half
    second. Raises `SystemExit` if the command fails.
    """
    peak = 0.0
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.5)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed")
    figures: dict[str, Any] = json.loads(text.splitlines()[-1])
    return figures | {"peak_mib": peak}


def memory(pid: int) -> float:
    """Return the memory (PSS, MiB) of a process and its children; 0 if it has ended."""
    total = 0
    try:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        return 0.0
    return total / 2**20
