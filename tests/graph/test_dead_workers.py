"""Tests that a job ends with the same result if a worker dies while a graph is built or walkers move."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray.data

from raylevance.data.collecting import collect
from raylevance.data.schema import ACTIONS
from raylevance.graph import building, excluded_negatives
from raylevance.graph.alias import AliasTable
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.edges import COUNT_SCHEMA, count_events
from raylevance.graph.excluded_negatives import find_excluded_negatives
from raylevance.graph.metapaths import PpmiSettings
from raylevance.graph.sharded_walks import walk_shards
from raylevance.graph.walks import WalkSettings, walk

PATIENCE_S = 60


class Killer:
    """Kill the first Ray process whose command line has `name`."""

    def __init__(self, name: str) -> None:
        self.name, self.killed = name, 0
        self._over = threading.Event()

    def __enter__(self) -> "Killer":
        self._thread = threading.Thread(target=self._hunt)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _hunt(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not self._over.is_set() and time.monotonic() < until:
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith("ray::") and self.name in " ".join(process.cmdline()):
                        os.kill(process.pid, signal.SIGKILL)
                        self.killed += 1
                        return
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.002)


def random_graph(rows: int, columns: int, edges: int) -> Csr:
    random = np.random.default_rng(0)
    cells = np.unique(random.integers(0, rows * columns, edges))
    return Csr.from_edges(cells // columns, cells % columns, random.random(len(cells)) + 0.1, (rows, columns))


@pytest.mark.long
@pytest.mark.ray
def test_a_projection_survives_the_death_of_a_worker(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = random_graph(4_000, 400, 200_000)
    monkeypatch.setattr(building, "MULTIPLICATIONS_PER_BLOCK", 20_000_000)
    transposed, settings = graph.transposed(), PpmiSettings(minimum_support=1, top=10)
    building.project_on_cluster(graph, transposed, settings, tmp_path / "quiet")
    with Killer("write_block") as killer:
        building.project_on_cluster(graph, transposed, settings, tmp_path / "killed")
    assert killer.killed == 1
    quiet, survived = Csr.load(tmp_path / "quiet"), Csr.load(tmp_path / "killed")
    assert (quiet.indices == survived.indices).all() and (quiet.weights == survived.weights).all()


@pytest.mark.long
@pytest.mark.ray
def test_counting_survives_the_death_of_a_worker(tmp_path: Path, ray_cluster: None) -> None:
    random, rows = np.random.default_rng(0), 1_000_000
    for part in range(8):
        columns = {"query_id": random.integers(0, 9_000, rows), "product_id": random.integers(0, 9_000, rows)}
        pq.write_table(pa.table({**columns, "action": random.integers(0, 4, rows)}), tmp_path / f"{part}.parquet")

    def counted() -> pa.Table:
        return collect(count_events(ray.data.read_parquet(str(tmp_path)), None, None), COUNT_SCHEMA)

    quiet = counted()
    with Killer("count_block") as killer:
        survived = counted()
    assert killer.killed == 1
    order = [("query", "ascending"), ("item", "ascending")]
    assert survived.sort_by(order).equals(quiet.sort_by(order))
    assert sum(pc.sum(quiet[action]).as_py() for action in ACTIONS) == 8 * rows


@pytest.mark.long
@pytest.mark.ray
def test_walks_survive_the_death_of_a_worker(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excluded_negatives, "NODES_PER_CHUNK", 2_000)
    edges, nothing = random_graph(6_000, 6_000, 60_000), random_graph(6_000, 6_000, 1)
    nodes = pa.array([f"{number:04}" for number in range(6_000)])
    graph = BehaviourGraph(nodes, nodes, edges, query_ppmi=nothing, item_ppmi=nothing, query_item_ppmi=nothing)
    walks = WalkSettings(length=8, walks_per_node=200)
    quiet = find_excluded_negatives(graph, walks, seed=0)
    with Killer("visit") as killer:
        survived = find_excluded_negatives(graph, walks, seed=0)
    assert killer.killed == 1
    assert (quiet.indptr == survived.indptr).all() and (quiet.indices == survived.indices).all()


@pytest.mark.long
@pytest.mark.ray
def test_walkers_survive_the_death_of_a_shard(tmp_path: Path, ray_cluster: None) -> None:
    half = random_graph(3_000, 3_000, 60_000)
    graph = Csr.from_edges(
        np.concatenate([half.edge_rows(), half.indices]),
        np.concatenate([half.indices, half.edge_rows()]),
        np.concatenate([half.weights, half.weights]),
        (3_000, 3_000),
    )
    files = [tmp_path / "0.arrow", tmp_path / "1.arrow"]
    graph.select_rows(0, 1_200).save(files[0])
    graph.select_rows(1_200, 3_000).save(files[1])
    settings, starts = WalkSettings(length=20, walks_per_node=20, p=0.5, q=2.0), np.arange(3_000)
    with Killer("WalkShard") as killer:
        walks = walk_shards(files, starts, settings, seed=0)
    assert killer.killed == 1
    assert (walks == walk(AliasTable.build(graph), starts, settings, seed=0)).all()
