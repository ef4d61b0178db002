"""Memory and speed of item retrieval on generated logs of growing size: `python benchmarks/item_size.py`.

Items grow by tens up to `--items`, with 12 events each; the logs are simulated (the demo shop's). Each size runs in two
processes, one after the other, with a Ray of 2 processors and 512 MiB of object store each: the first generates a log
and builds its item graph, and the second trains `--steps` steps of 256 triggers on it in one worker. Printed are the
peak memory of each process (proportional set size, with Ray's), the edges of the graph and how many are built a second,
and the seconds of a step with the triggers trained a second.
"""

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset

from legs import run_leg

EVENTS_PER_ITEM, ITEMS_PER_USER = 12, 5


def build(items: int, folder: Path) -> dict[str, Any]:
    """Generate a log of `items` items, build its graph in `folder`, and return its figures."""
    import ray.data

    from raylevance.demo.generating import generate
    from raylevance.demo.settings import DemoSettings
    from raylevance.graph.item_graph import ItemGraphSettings, build_item_graph
    from raylevance.models.item_features import categories_below, numbered_categories

    settings = DemoSettings(
        products=items,
        queries=items // 5,
        events=items * EVENTS_PER_ITEM,
        users=items // ITEMS_PER_USER,
        judged_per_query=1,
    )
    generate(settings, folder / "tables")
    columns = ["product_id", "category", "brand", "price"]
    products = pyarrow.dataset.dataset(folder / "tables" / "products").to_table(columns=columns).sort_by("product_id")
    started = time.perf_counter()
    events = ray.data.read_parquet(str(folder / "tables" / "events"))
    categories, names = numbered_categories(products)
    (folder / "graph").mkdir()
    figures = build_item_graph(
        events, products, categories, categories_below(names), None, folder / "graph", ItemGraphSettings()
    )
    seconds = time.perf_counter() - started
    edges = sum(figures["edges"].values()) + figures["neighbour_edges"]
    return {
        "events": settings.events,
        "edges": edges,
        "build_s": seconds,
        "edges/s": edges / seconds,
        **figures["edges"],
    }


def train(items: int, folder: Path, steps: int) -> dict[str, Any]:
    """Train an item encoder on the graph in `folder`, and return its figures."""
    import pyarrow.parquet as pq
    import torch

    from raylevance.graph.item_graph import ITEMS
    from raylevance.models.item_encoder import ItemEncoder, ItemEncoderSettings
    from raylevance.models.item_features import ItemVocabulary
    from raylevance.training.settings import MachineSettings
    from raylevance.training.tasks.item_retrieval import ItemRetrieval, ItemRetrievalSettings
    from raylevance.training.trainer import train

    table = pq.read_table(folder / "graph" / ITEMS)
    torch.manual_seed(0)
    ItemEncoder(ItemEncoderSettings(), ItemVocabulary.of(table), items, 0).save(folder / "new")
    settings = ItemRetrievalSettings(batch=256, epochs=1000, max_steps=steps, learning_rate=3e-3, precision="fp32")
    task = ItemRetrieval(folder / "new", folder / "graph", None, settings)
    (folder / "run").mkdir()
    started = time.perf_counter()
    machine = MachineSettings(cpus_per_worker=2, log_every=1)
    result = train(task, machine, run_dir=folder / "run", output=folder / "trained")
    seconds = time.perf_counter() - started
    rates = [record["pairs_per_second"] for record in result.history if record["step"]]
    return {
        "train_s": seconds,
        "step_s": settings.batch / float(np.median(rates)),
        "triggers/s": float(np.median(rates)),
    }


@contextmanager
def small_ray() -> Iterator[None]:
    """Connect to a Ray of 2 processors and 512 MiB of object store for the block."""
    import ray

    from raylevance.cluster import connected

    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=512 << 20)
    with connected():
        yield


def main() -> None:
    """Measure, and print two lines of figures for each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only-largest", action="store_true")
    parser.add_argument("--leg", choices=["build", "train"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.leg:
        with small_ray():
            build_or_train = build if options.leg == "build" else functools.partial(train, steps=options.steps)
            print(json.dumps(build_or_train(options.items, options.folder)))
        return
    for items in [options.items] if options.only_largest else [options.items // part for part in (100, 10, 1)]:
        with tempfile.TemporaryDirectory() as folder:
            for leg in ("build", "train"):
                arguments = ["--items", str(items), "--steps", str(options.steps), "--folder", folder]
                figures = run_leg([sys.executable, __file__, "--leg", leg, *arguments])
                said = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
                print(f"{leg} {items:,} items: {said}", flush=True)


if __name__ == "__main__":
    main()
