"""Lists of triggers that a table of items answers in a second, beside the same merge in NumPy.

    python benchmarks/recommend_speed.py [--items 100000] [--triggers 10]

One process, random lists; ours on every core, as it is served, the peer on one thread. The peer looks the rows up in
the same arrays and adds up what each item gets with `np.unique` and `np.bincount`, as one would in a notebook.
"""

import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from raylevance.index.item_scores import DAMPING
from raylevance.index.item_table import ItemTable
from raylevance.inference.item_table import TriggerLists, recommender

K, WIDTH, TEMPERATURE = 200, 400, 0.1


def random_table(items: int, rng: np.random.Generator) -> ItemTable:
    """Return a table whose lists are random items with falling cosines."""
    neighbours = rng.integers(0, items, (items, WIDTH), np.int32)
    scores = -np.sort(-rng.uniform(0.2, 1, (items, WIDTH)).astype(np.float32), axis=1)
    ids = pa.array([f"{row:08}" for row in range(items)])
    return ItemTable(pa.table({"product_id": ids, "category": ids}), neighbours, scores, TEMPERATURE)


def by_numpy(table: ItemTable, items: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the `K` best items of one request."""
    damped = weights**DAMPING
    shares = (damped / damped.sum())[:, None] * np.exp((table.scores[items] - 1) / TEMPERATURE)
    found, places = np.unique(table.neighbours[items], return_inverse=True)
    mass = np.bincount(places.ravel(), shares.ravel())
    mass[np.isin(found, items)] = 0
    best = np.argpartition(-mass, K)[:K]
    ranked: np.ndarray = found[best[np.argsort(-mass[best])]]
    return ranked


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest of a few times."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main(
    items: Annotated[int, typer.Option(help="Items of the table.")] = 100_000,
    triggers: Annotated[int, typer.Option(help="Triggers of a list.")] = 10,
    requests: Annotated[int, typer.Option(help="Lists.")] = 5_000,
) -> None:
    """Print both speeds and their ratio."""
    rng = np.random.default_rng(0)
    table = random_table(items, rng)
    lists = [(rng.choice(items, triggers, replace=False), rng.uniform(1, 5, triggers)) for _ in range(requests)]
    whole, asked = recommender(table), TriggerLists.of(lists)
    whole.recommend(TriggerLists.of(lists[:10]), K)
    ours = requests / seconds(lambda: whole.recommend(asked, K))
    some = lists[:500]
    peer = len(some) / seconds(lambda: [by_numpy(table, *each) for each in some])
    print(f"{items} items, lists of {triggers} triggers, k={K}, {WIDTH} neighbours an item")
    print(f"raylevance: {ours:,.0f} lists/s; NumPy: {peer:,.0f} lists/s; ratio {ours / peer:.1f}")


if __name__ == "__main__":
    typer.run(main)
