"""Measure steps per second of second-order random walks: `raylevance.graph.walks` against PecanPy's SparseOTF.

    python benchmarks/walk_speed.py --data ../shared/data --json

Both walk the same weighted graphs, p = 0.5 and q = 2, 20 steps, on all processors: a power-law graph of 200,000 nodes
and 2,000,000 edges, and the products of ESCI that were judged for the same queries. Each leg is a process of its own,
timed after a short first call that compiles it. PecanPy runs in an environment of its own, which uv makes, because it
needs an older NumPy. It compiles in every call, which is not counted as walking.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

P, Q, LENGTH = 0.5, 2.0, 20
STEPS = 4_000_000
"""About how many steps are walked in all: a small graph gets several walks per node. PecanPy takes minutes for more."""
PEER = ["--no-project", "--with", "pecanpy==2.0.9", "--with", "pyarrow", "--with", "setuptools<81"]
POWER_LAW, ESCI = "power law, 200k nodes", "ESCI products"


def power_law(nodes: int = 200_000, edges: int = 2_000_000) -> Any:
    """Return a symmetric weighted graph (a scipy matrix) whose degrees follow a power law."""
    from scipy import sparse

    random = np.random.default_rng(0)
    share = random.zipf(2.0, nodes).clip(max=5_000).astype(float)
    ends = random.choice(nodes, (2, edges), p=share / share.sum())
    ends = ends[:, ends[0] != ends[1]]
    half = sparse.coo_array((random.uniform(0.1, 1.1, ends.shape[1]), tuple(ends)), (nodes, nodes)).tocsr()
    return half + half.T


def esci_products(data: Path) -> Any:
    """Return the matrix of products by products that counts the queries for which both were judged."""
    import pyarrow.parquet as pq
    from scipy import sparse

    table = pq.read_table(data / "esci" / "judged_edges.parquet").to_pandas()
    query, product = (table[name].astype("category").cat.codes.to_numpy() for name in ("query_id", "product_id"))
    judged = sparse.coo_array((np.ones(len(table)), (product, query))).tocsr()
    together = (judged @ judged.T).tolil()
    together.setdiag(0)
    return together.tocsr()


def walks_per_node(nodes: int) -> int:
    """Return how many walks per node make about `STEPS` steps in all."""
    return max(1, STEPS // (nodes * LENGTH))


def ours(graph: Any) -> dict[str, float]:
    """Walk the graph with `raylevance.graph`. Return the steps, and the seconds of walking and of preparing."""
    from raylevance.graph.alias import AliasTable
    from raylevance.graph.csr import Csr
    from raylevance.graph.walks import WalkSettings, walk

    threads = os.cpu_count() or 1
    weights = graph["weights"].astype(np.float32)
    csr = Csr(graph["indptr"].astype(np.int64), graph["indices"].astype(np.int32), weights, len(graph["indptr"]) - 1)
    starts = np.flatnonzero(csr.degrees)
    settings = WalkSettings(length=LENGTH, walks_per_node=walks_per_node(len(starts)), p=P, q=Q)
    walk(AliasTable.build(csr), starts[:100], settings, seed=0)
    started = time.perf_counter()
    table = AliasTable.build(csr)
    built = time.perf_counter() - started
    started = time.perf_counter()
    walks = walk(table, starts, settings, seed=0, threads=threads)
    return {"steps": int((walks[:, 1:] >= 0).sum()), "seconds": time.perf_counter() - started, "preparing": built}


def pecanpy(graph: Any) -> dict[str, float]:
    """Walk the graph with PecanPy. Return the steps, and the seconds of walking and of preparing."""
    from pecanpy.pecanpy import SparseOTF  # type: ignore[import-not-found]

    nodes = len(graph["indptr"]) - 1
    peer = SparseOTF(P, Q, workers=os.cpu_count() or 1, random_state=0)
    peer.indptr, peer.indices = graph["indptr"].astype(np.uint32), graph["indices"].astype(np.uint32)
    peer.data = graph["weights"].astype(np.float32)
    peer.set_node_ids([str(node) for node in range(nodes)])
    seconds = []
    for count, length in ((1, 1), (1, 1), (walks_per_node(nodes), LENGTH)):
        started = time.perf_counter()
        walks = peer.simulate_walks(num_walks=count, walk_length=length)
        seconds.append(time.perf_counter() - started)
    # It compiles in every call: what a call of one step takes is not counted.
    walking = seconds[2] - seconds[1]
    return {"steps": sum(len(each) - 1 for each in walks), "seconds": walking, "preparing": seconds[1]}


def leg(name: str, file: Path) -> dict[str, float]:
    """Run `ours` or `pecanpy` in a process of its own, and return its figures."""
    command = (
        [sys.executable] if name == "ours" else [str(Path(sys.executable).with_name("uv")), "run", *PEER, "python"]
    )
    environment = {key: value for key, value in os.environ.items() if name == "ours" or key != "PYTHONPATH"}
    ended = subprocess.run(
        [*command, __file__, "--leg", name, "--graph", str(file)], capture_output=True, text=True, env=environment
    )
    if ended.returncode:
        raise SystemExit(f"{name} failed:\n{ended.stderr}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--leg", choices=["ours", "pecanpy"], help=argparse.SUPPRESS)
    parser.add_argument("--graph", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.leg:
        graph = np.load(options.graph)
        found = ours(graph) if options.leg == "ours" else pecanpy(graph)
        found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    figures: dict[str, Any] = {}
    for name, graph in {POWER_LAW: power_law(), ESCI: esci_products(options.data)}.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "graph.npz"
            np.savez(file, indptr=graph.indptr, indices=graph.indices, weights=graph.data)
            legs = {side: leg(side, file) for side in ("ours", "pecanpy")}
        rates = {side: found["steps"] / found["seconds"] for side, found in legs.items()}
        figures[name] = {
            "edges": graph.nnz // 2,
            **legs,
            "steps_per_s": rates,
            "ratio": rates["ours"] / rates["pecanpy"],
        }
        if not options.json:
            print(
                f"{name}: ours {rates['ours'] / 1e6:.2f}M steps/s, {legs['ours']['peak_mib']:.0f} MiB; PecanPy "
                f"{rates['pecanpy'] / 1e6:.2f}M, {legs['pecanpy']['peak_mib']:.0f} MiB; {figures[name]['ratio']:.1f}x"
            )
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
