"""A Ray that a command starts for itself: where it listens. What nodes see of a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from raylevance import cluster
from raylevance.artifacts import Store
from raylevance.cluster import check_shared_folder, nodes_without
from raylevance.errors import RaylevanceError
from workloads.run import check_shared_store

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


@pytest.mark.ray
def test_a_node_that_does_not_see_a_file_is_named(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "VISIBLE_WITHIN_S", 0.3)
    (tmp_path / "there").touch()
    assert nodes_without(tmp_path / "there") == []
    [address] = nodes_without(tmp_path / "missing")
    assert address.count(".") == 3


@pytest.mark.ray
def test_a_store_that_not_all_nodes_see_is_refused(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is made on several nodes alone, and leaves nothing in the folder."""
    monkeypatch.setattr("raylevance.cluster.alive_nodes", lambda: [{}, {}])
    check_shared_folder(tmp_path, "store x")
    check_shared_store(Store(tmp_path))
    monkeypatch.setattr(cluster, "nodes_without", lambda _: ["10.0.0.2", "10.0.0.3"])
    with pytest.raises(RaylevanceError, match=r"^store x: not visible on 10\.0\.0\.2, 10\.0\.0\.3; put it on a mount"):
        check_shared_folder(tmp_path, "store x")
    assert [file.name for file in tmp_path.iterdir()] == [".work"]
    monkeypatch.setattr("workloads.run.alive_nodes", lambda: [{}, {}])
    with pytest.raises(RaylevanceError, match="needs a store in a folder that all of them mount, not an object store"):
        check_shared_store(Store("mock://shop"))
