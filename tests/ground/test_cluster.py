"""What the cluster can give, and what does not fit on it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import ray

from raylevance import cluster
from raylevance.errors import RaylevanceError

ROOT = Path(__file__).parents[2]
Nodes = Callable[..., None]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Pretend that the cluster consists of these nodes, and of one that has died."""

    def pretend(*resources: dict[str, float]) -> None:
        total: dict[str, float] = {}
        for node in resources:
            for name, count in node.items():
                total[name] = total.get(name, 0) + count
        listed = [{"Alive": True, "Resources": node} for node in resources]
        monkeypatch.setattr(ray, "nodes", lambda: [*listed, {"Alive": False, "Resources": {"CPU": 64.0}}])
        monkeypatch.setattr(ray, "cluster_resources", lambda: total)

    yield pretend


def test_counts(nodes: Nodes) -> None:
    nodes({"CPU": 8.0, "GPU": 1.0}, {"CPU": 3.0})
    assert (cluster.count_cpus(), cluster.count_gpus(), len(cluster.alive_nodes())) == (11, 1, 2)
    assert cluster.cpus_per_node() == 5
    nodes({"memory": 1.0})
    assert (cluster.count_cpus(), cluster.count_gpus(), cluster.cpus_per_node()) == (0, 0, 1)


@pytest.mark.parametrize(
    ("node", "tasks", "actors"),
    [({"CPU": 8.0}, 3, 3), ({"CPU": 8.0}, 20, 8), ({"CPU": 8.0, "GPU": 2.0}, 20, 2), ({"CPU": 8.0}, 0, 1)],
)
def test_the_size_of_an_actor_pool(nodes: Nodes, node: dict[str, float], tasks: int, actors: int) -> None:
    nodes(node)
    assert cluster.actor_pool_size(tasks) == actors


def test_room_is_counted_node_by_node(nodes: Nodes) -> None:
    nodes({"CPU": 3.0, "GPU": 2.0}, {"CPU": 3.0})
    cluster.check_room("workers", 2, cpus=2)
    cluster.check_room("engines", 2, gpus=1)
    with pytest.raises(RaylevanceError, match=r"^workers=3 with 2 CPU each: the cluster has room for 2; lower workers"):
        cluster.check_room("workers", 3, cpus=2)
    with pytest.raises(RaylevanceError, match="workers=2 with 2 CPU and 1 GPU each: the cluster has room for 1"):
        cluster.check_room("workers", 2, cpus=2, gpus=1)
    with pytest.raises(RaylevanceError, match="engines=3 with a machine each: the cluster has room for 2"):
        cluster.check_room("engines", 3, cpus=1, one_per_node=True)


def test_a_function_in_a_thread_gives_its_result_and_its_error() -> None:
    assert cluster.run_in_thread(lambda: threading.current_thread() is threading.main_thread()) is False
    with pytest.raises(RaylevanceError, match="no room"):
        cluster.run_in_thread(partial(cluster_is_full, "no room"))


def cluster_is_full(message: str) -> None:
    raise RaylevanceError(message)


OWN_RAY = """
import os, signal
import ray
from raylevance.cluster import connected

def handler(number, frame): pass
signal.signal(signal.SIGTERM, handler)
with connected():
    assert signal.getsignal(signal.SIGTERM) is handler
    print(ray.get(ray.remote(lambda: os.nice(0)).remote()))
    with connected():
        pass
    assert ray.is_initialized()
assert not ray.is_initialized()
"""


@pytest.mark.ray
@pytest.mark.parametrize("given", [None, "7"])
def test_workers_of_our_own_ray_are_not_nice(given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    if given is not None:
        environment["RAY_worker_niceness"] = given
    done = subprocess.run(
        [sys.executable, "-c", OWN_RAY], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) - os.nice(0) == int(given or cluster.WORKER_NICENESS)
