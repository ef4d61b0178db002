"""Tests of edges against plain counting, and of merging a new day against counting all days again."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import ray.data

from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph import edges
from raylevance.graph.edges import EdgeWeights, NodeIds, count_events, merge_counts

Edge = tuple[str, str, str]


def log(rows: int, seed: int) -> pa.Table:
    """Return events of few queries, the first a popular one. Some have no query, and some an unknown product."""
    random = np.random.default_rng(seed)
    queries = [f"q{number}" if number < 9 else None for number in np.minimum(random.geometric(0.4, rows) - 1, 9)]
    products = [f"p{number}" for number in random.integers(0, 12, rows)]
    actions = random.choice(ACTIONS, rows, p=[0.6, 0.25, 0.1, 0.05])
    return pa.table({"query_id": queries, "product_id": products, "action": actions, "other": np.arange(rows)})


QUERIES = NodeIds.assign(pa.array([f"q{number}" for number in range(9)]))
ITEMS = NodeIds.assign(pa.array([f"p{number}" for number in range(11)]))


def expected(events: pa.Table) -> Counter[Edge]:
    rows = zip(*(events[name].to_pylist() for name in ("query_id", "product_id", "action")), strict=True)
    return Counter(row for row in rows if row[0] is not None and row[1] != "p11")


def as_counter(counts: pa.Table) -> Counter[Edge]:
    counted: Counter[Edge] = Counter()
    for row in counts.to_pylist():
        edge = QUERIES.strings[row["query"]].as_py(), ITEMS.strings[row["item"]].as_py()
        assert (*edge, "seen") not in counted
        counted |= Counter({(*edge, action): row[action] for action in ACTIONS if row[action]})
    return counted


def counted(events: pa.Table, blocks: int = 3) -> ray.data.Dataset:
    return count_events(ray.data.from_arrow(events).repartition(blocks), QUERIES, ITEMS)


def table_of(counts: ray.data.Dataset) -> pa.Table:
    parts = [part for part in counts.iter_batches(batch_format="pyarrow", batch_size=None) if part.num_rows]
    return pa.concat_tables(parts)


@pytest.mark.ray
@pytest.mark.parametrize("edges_per_bucket", [10**6, 200])
def test_events_are_counted_by_query_item_and_action(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch, edges_per_bucket: int
) -> None:
    monkeypatch.setattr(edges, "EDGES_PER_BUCKET", edges_per_bucket)
    events = log(500, seed=0)
    counts = table_of(counted(events))
    assert as_counter(counts) == expected(events)
    assert counts.num_rows == len({edge[:2] for edge in expected(events)})


@pytest.mark.ray
def test_a_new_day_merged_is_all_days_counted_again(ray_cluster: None) -> None:
    days = [log(300, seed=1), log(200, seed=2)]
    merged = table_of(merge_counts([counted(day) for day in days]))
    assert merged.equals(table_of(counted(pa.concat_tables(days))))


def test_weights_are_damped_sums_of_action_weights() -> None:
    counts = pa.table(
        {
            "query": pa.array([1, 0, 0], pa.int32()),
            "item": pa.array([0, 2, 1], pa.int32()),
            "exposure": [9, 9, 9],
            "click": [2, 1, 3],
            "cart": [0, 0, 1],
            "purchase": [0, 0, 1],
        }
    )
    graph = EdgeWeights().weigh(counts, queries=2, items=3)
    assert (graph.indptr.tolist(), graph.indices.tolist()) == ([0, 1, 2], [1, 0])
    assert graph.weights == pytest.approx(np.log1p([3 + 3 + 5, 2]))
    everything = EdgeWeights(exposure=0.5, damping="none", minimum_support=10).weigh(counts, queries=2, items=3)
    assert everything.weights == pytest.approx([4.5 + 11, 4.5 + 1, 4.5 + 2])


def test_unknown_ids_have_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = NodeIds.assign(pa.array(["b", "a", "b", "c"]))
    assert ids.strings.to_pylist() == ["a", "b", "c"]
    assert ids.lookup(pa.array(["c", "z", "a", None])).tolist() == [2, -1, 0, -1]
    monkeypatch.setattr(edges, "hash_strings", lambda values: np.zeros(len(values), np.uint64))
    with pytest.raises(RaylevanceError, match="the ids 'a' and 'b' have the same hash"):
        NodeIds.assign(pa.array(["a", "b"]))


def test_an_unknown_action_is_refused() -> None:
    event = pa.table({"query_id": ["q1"], "product_id": ["p1"], "action": ["view"]})
    with pytest.raises(RaylevanceError, match="events: action 'view' is not one of exposure, click"):
        edges.count_block(event, QUERIES, ITEMS)
