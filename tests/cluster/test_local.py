"""A Ray that a command starts for itself: where it listens."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTENING = """
import psutil

from raylevance.cluster import connected

with connected():
    for process in psutil.Process().children(recursive=True):
        for socket in process.net_connections("tcp"):
            if socket.status == "LISTEN":
                print(socket.laddr.ip)
"""


@pytest.mark.ray
def test_its_ports_are_on_loopback() -> None:
    done = subprocess.run([sys.executable, "-c", LISTENING], cwd=ROOT, check=True, capture_output=True, text=True)
    addresses = set(done.stdout.split())
    assert addresses and addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
