"""Batches have every instance once an epoch, on any number of workers, and no false negatives."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.errors import RaylevanceError
from raylevance.training.epoch_plan import plan_epoch
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.contrastive.instance_plan import InstancePlan
from raylevance.training.tasks.contrastive.tokenised_instances import SCHEMA, TokenisedInstances


def stored(tmp_path: Path, rows: Sequence[tuple[list[int], list[list[int]], Sequence[float]]]) -> TokenisedInstances:
    """Store instances of (query tokens, item tokens, labels) in two record batches."""
    names = ("query", "items", "labels")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    table = pa.table({**columns, "variant": [[]] * len(rows)}, schema=SCHEMA)
    file = tmp_path / "tokens.arrow"
    with pa.ipc.new_file(str(file), SCHEMA) as writer:
        writer.write_table(table, max_chunksize=-(-len(rows) // 2))
    return TokenisedInstances(file)


def plan_of(
    instances: TokenisedInstances, batch: int, in_batch: bool, rank: int = 0, world_size: int = 1
) -> InstancePlan:
    context = WorkerContext(Path(), seed=0, rank=rank, world_size=world_size)
    return InstancePlan(instances, context, batch=batch, in_batch=in_batch)


@given(st.integers(1, 200), st.integers(1, 33), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_an_epoch_holds_every_instance_once(count: int, batch: int, seed: int) -> None:
    cost = np.random.default_rng(seed).integers(1, 99, count)
    batches = plan_epoch(cost, batch, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert sorted(map(len, batches))[1:] == [batch] * (len(batches) - 1)
    again = plan_epoch(cost, batch, np.random.default_rng(seed))
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


@pytest.mark.ray
@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("world", [2, 3])
def test_workers_share_out_the_batch_of_one(tokens_file: Path, in_batch: bool, world: int) -> None:
    instances = TokenisedInstances(tokens_file)
    alone = plan_of(instances, 5, in_batch)
    plans = [plan_of(instances, 5, in_batch, rank, world) for rank in range(world)]
    for step in range(2 * alone.steps_per_epoch):
        whole = [text.tobytes() for text in alone.load(step)[0].items]
        shares = [text.tobytes() for plan in plans for text in plan.load(step)[0].items]
        assert sorted(shares) == sorted(whole)


@pytest.mark.ray
def test_a_step_is_the_same_whatever_came_before(tokens_file: Path) -> None:
    instances = TokenisedInstances(tokens_file)
    plan = plan_of(instances, 4, in_batch=True)
    steps = [plan.rows(step).tolist() for step in range(15)]
    assert plan_of(instances, 4, in_batch=True).rows(13).tolist() == steps[13]
    assert steps[0] != steps[plan.steps_per_epoch]


def test_instances_without_contrast_are_left_out(tmp_path: Path) -> None:
    rows = [([1], [[2], [3]], [2, 0]), ([1], [[2]], [1]), ([1], [[2], [3]], [0, 0]), ([1], [[2], [3]], [1, 1])]
    instances = stored(tmp_path, rows)
    assert plan_of(instances, 2, in_batch=False).usable.tolist() == [0]
    assert plan_of(instances, 2, in_batch=True).usable.tolist() == [0, 1, 3]
    with pytest.raises(RaylevanceError, match="none of the 1 training instances has two different labels"):
        plan_of(stored(tmp_path, [rows[1]]), 2, in_batch=False)


def test_each_epoch_draws_one_positive_of_an_instance(tmp_path: Path) -> None:
    plan = plan_of(stored(tmp_path, [([1], [[9], [5], [6], [9]], [0, 1, 2, 0])]), 1, in_batch=True)
    drawn = {plan.load(epoch)[0].items[0].item() for epoch in range(20)}
    assert drawn == {5, 6}


def test_an_expected_grade_near_0_is_no_positive(tmp_path: Path) -> None:
    """Item 5 of grade 0 with a confidence of 0.9 is a negative of InfoNCE, and has its label in the graded losses."""
    instances = stored(tmp_path, [([1], [[4], [5], [6]], [1.9, 0.1, 0.75]), ([2], [[7], [8]], [0.1, 0.2])])
    plan = plan_of(instances, 2, in_batch=True)
    assert plan.usable.tolist() == [0]
    assert {plan.load(epoch)[0].items[0].item() for epoch in range(20)} == {4, 6}
    labels = plan_of(instances, 2, in_batch=False).load(0)[0].labels
    assert sorted(labels.tolist()) == pytest.approx([0.1, 0.1, 0.2, 0.75, 1.9])


def test_known_positives_are_not_negatives(tmp_path: Path) -> None:
    """Queries 1 and 2 share item 7; query 3 has two instances, with items 8 and 9."""
    rows = [([1], [[7]], [1]), ([2], [[7]], [1]), ([3], [[8]], [1]), ([3], [[9]], [2])]
    plans = [plan_of(stored(tmp_path, rows), 4, in_batch=True, rank=rank, world_size=2) for rank in (0, 1)]
    batches = [plan.load(0)[0] for plan in plans]
    items = [int(item.item()) for batch in batches for item in batch.items]
    positives_of = {1: {7}, 2: {7}, 3: {8, 9}}
    for batch in batches:
        in_batch = batch.in_batch
        assert in_batch is not None and in_batch.sizes == (2, 2)
        for row, query in enumerate(batch.queries):
            assert items[int(in_batch.positive[row])] == int(batch.items[row].item())
            assert in_batch.is_positive[row].tolist() == [item in positives_of[int(query.item())] for item in items]


INSTANCES = st.lists(
    st.tuples(st.integers(1, 3), st.lists(st.tuples(st.integers(4, 9), st.integers(0, 2)), min_size=1, max_size=3)),
    min_size=2,
    max_size=12,
)


@given(INSTANCES, st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_positive_of_the_query_in_any_instance_is_no_negative(
    rows: list[tuple[int, list[tuple[int, int]]]], batch: int, world: int
) -> None:
    """A log gives an instance for each click. The other clicks on a query may be of instances of other batches."""
    positives = {
        query: {item for one, items in rows for item, label in items if one == query and label} for query, _ in rows
    }
    if not any(positives.values()):
        return
    with TemporaryDirectory() as folder:
        instances = stored(
            Path(folder),
            [([query], [[item] for item, _ in items], [label for _, label in items]) for query, items in rows],
        )
        plans = [plan_of(instances, batch, in_batch=True, rank=rank, world_size=world) for rank in range(world)]
        for step in range(2 * plans[0].steps_per_epoch):
            shares = [plan.load(step)[0] for plan in plans]
            items = [int(item.item()) for share in shares for item in share.items]
            for share in shares:
                assert share.in_batch is not None
                for query, is_positive in zip(share.queries, share.in_batch.is_positive, strict=True):
                    assert is_positive.tolist() == [item in positives[int(query.item())] for item in items]
