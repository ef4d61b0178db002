"""Measure the seconds to build a behaviour graph: 20M events to edges against polars, basket PPMI against scipy.

    python benchmarks/graph_speed.py --data ../shared/data --json

The events have numbers as ids, with Zipf distributions of queries and items, in eight Parquet files. Both sides read
the same files and count the events of each query, item and action (ours has one column per action). The baskets are
those of UCI Online Retail; PPMI is computed for all pairs of items. Ray starts before the clock. Each figure is the
best of three.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from scipy import sparse

from raylevance.cluster import connected
from raylevance.data.schema import ACTIONS
from raylevance.graph.csr import Csr
from raylevance.graph.edges import count_events
from raylevance.graph.metapaths import Marginals, PpmiSettings, project

EVENTS, FILES, REPEATS = 20_000_000, 8, 3


def write_events(folder: Path) -> None:
    """Write events of about 200,000 queries and items. The most frequent pair has a large share of all events."""
    random = np.random.default_rng(0)
    columns = {
        "query_id": (random.zipf(1.3, EVENTS) % 200_000).astype(np.int32),
        "product_id": (random.zipf(1.3, EVENTS) % 200_000).astype(np.int32),
        "action": random.choice(len(ACTIONS), EVENTS, p=[0.7, 0.2, 0.07, 0.03]).astype(np.int8),
    }
    table, rows = pa.table(columns), EVENTS // FILES
    folder.mkdir()
    for number in range(FILES):
        pq.write_table(table.slice(number * rows, rows), folder / f"part-{number}.parquet")


def with_ray(folder: Path) -> int:
    """Count the events of each query, item and action with Ray Data. Return the number of rows."""
    return count_events(ray.data.read_parquet(str(folder)), None, None).materialize().count()


def with_polars(folder: Path) -> int:
    """Count the events of each query, item and action with polars. Return the number of rows."""
    counted = polars.scan_parquet(folder / "*.parquet").group_by("query_id", "product_id", "action").len()
    return int(counted.collect().height)


def baskets(data: Path) -> Csr:
    """Return the matrix of items by baskets."""
    table = pq.read_table(data / "uci_online_retail" / "purchases.parquet").to_pandas()
    basket = (
        (table["CustomerID"].astype(str) + table["InvoiceDate"].astype(str)).astype("category").cat.codes.to_numpy()
    )
    item = table["Description"].astype("category").cat.codes.to_numpy()
    matrix = sparse.coo_array((np.ones(len(table)), (item, basket))).tocsr()
    matrix.data[:] = 1
    return Csr(
        matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype("f4"), matrix.shape[1]
    )


def ppmi_here(graph: Csr) -> int:
    """Compute the PPMI of all pairs of items with `raylevance.graph`. Return the number of edges."""
    settings = PpmiSettings(top=graph.rows)
    return len(project(graph, graph.transposed(), Marginals.of_projection(graph), settings, 0, graph.rows).indices)


def ppmi_scipy(graph: Csr) -> int:
    """Compute the PPMI of all pairs of items with scipy. Return the number of edges."""
    matrix = sparse.csr_array((graph.weights.astype(float), graph.indices, graph.indptr), (graph.rows, graph.columns))
    product = (matrix @ matrix.T).tocoo()
    kept = (product.row != product.col) & (product.data > 0)
    row, column, mass = product.row[kept], product.col[kept], product.data[kept]
    total = np.bincount(row, mass, graph.rows)
    pmi = np.log(mass * mass.sum() / (total[row] * total[column]))
    return int(((pmi > 0) & (mass >= 2)).sum())


def best(call: Callable[[], int]) -> tuple[float, int]:
    """Return the seconds of the fastest of `REPEATS` calls, and the result of the last one."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, connected():
        events = Path(folder) / "events"
        write_events(events)
        edges = {"ours": best(lambda: with_ray(events)), "polars": best(lambda: with_polars(events))}
    graph = baskets(options.data)
    ppmi = {"ours": best(lambda: ppmi_here(graph)), "scipy": best(lambda: ppmi_scipy(graph))}
    assert ppmi["ours"][1] == ppmi["scipy"][1], "both keep the same edges"
    for name, legs in {"20M events to edges": edges, "UCI basket PPMI": ppmi}.items():
        seconds = {side: found[0] for side, found in legs.items()}
        peer = next(side for side in seconds if side != "ours")
        figures[name] = {"seconds": seconds, "rows": legs["ours"][1], "times_as_long": seconds["ours"] / seconds[peer]}
        if not options.json:
            print(f"{name}: ours {seconds['ours']:.2f} s, {peer} {seconds[peer]:.2f} s")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
