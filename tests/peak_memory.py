"""The most memory that a piece of work takes, its driver and all of Ray's processes together."""

import subprocess
import sys

SCRIPT = """
import sys, threading
from pathlib import Path
import psutil, ray

def memory():
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            pass
    return total

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory={store})
peak, done = [0], threading.Event()

def watch():
    while not done.wait(0.5):
        peak[0] = max(peak[0], memory())

watcher = threading.Thread(target=watch)
watcher.start()
try:
{work}
finally:
    done.set()
    watcher.join()
    ray.shutdown()
print(peak[0])
"""


def peak_bytes(work: str, *arguments: object, object_store: int) -> int:
    """Run the lines `work` (`sys.argv` has the `arguments`) in a Ray of two processors.

    Returns the peak of the proportional set sizes (each shared page counted once), in bytes.
    """
    indented = "\n".join(f"    {line}" for line in work.strip().splitlines())
    script = SCRIPT.format(work=indented, store=object_store)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
