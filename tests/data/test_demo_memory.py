"""The demo shop at scale: memory stays that of some blocks."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 2 << 30
"""Bytes: proportional set size (each shared page counted once) of the driver and all of Ray's processes together."""

SCRIPT = """
import sys, threading
from pathlib import Path
import psutil, ray
from raylevance.data.demo import DemoSettings, generate

def memory():
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            pass
    return total

products, events, output = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
peak, done = [0], threading.Event()

def watch():
    while not done.wait(0.5):
        peak[0] = max(peak[0], memory())

watcher = threading.Thread(target=watch)
watcher.start()
rows = generate(DemoSettings(products=products, events=events), output)
done.set()
watcher.join()
ray.shutdown()
assert (rows["products"], rows["events"]) == (products, events)
print(peak[0])
"""


def peak_bytes(products: int, events: int, output: Path) -> int:
    command = [sys.executable, "-c", SCRIPT, str(products), str(events), str(output)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


@pytest.mark.long
def test_five_million_products_and_fifty_million_events_in_two_gibibytes(tmp_path: Path) -> None:
    assert peak_bytes(5_000_000, 50_000_000, tmp_path) < LIMIT
