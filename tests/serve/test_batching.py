"""Batches are what arrived during the batch before; no caller is lost."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.batching import Batcher


class Doubler:
    """Doubles numbers, records its batches, and takes `seconds` for each."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds
        self.batches: list[list[int]] = []

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        await asyncio.sleep(self.seconds)
        return [2 * item for item in items]


def test_what_arrives_one_by_one_during_a_batch_is_the_next_batch() -> None:
    async def run() -> list[list[int]]:
        double = Doubler(seconds=0.1)
        batcher = Batcher(double, limit=32)
        tasks = []
        for number in range(9):
            tasks.append(asyncio.create_task(batcher(number)))
            await asyncio.sleep(0.005)
        assert await asyncio.gather(*tasks) == [2 * number for number in range(9)]
        return double.batches

    assert asyncio.run(run()) == [[0], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_a_single_item_does_not_wait_unless_told() -> None:
    async def run(wait_s: float) -> list[list[int]]:
        double = Doubler()
        batcher = Batcher(double, limit=32, wait_s=wait_s)
        first = asyncio.create_task(batcher(0))
        await asyncio.sleep(0.005)
        await asyncio.gather(first, batcher(1))
        return double.batches

    assert asyncio.run(run(0.0)) == [[0], [1]]
    assert asyncio.run(run(0.1)) == [[0, 1]]


@given(items=st.lists(st.integers(), min_size=1, max_size=40), max_size=st.integers(1, 8), seed=st.integers())
def test_every_item_gets_its_own_result_in_batches_within_the_limit(items: list[int], max_size: int, seed: int) -> None:
    async def run() -> list[list[int]]:
        double = Doubler(seconds=0)
        batcher = Batcher(double, max_size)
        delays = random.Random(seed)

        async def call(item: int) -> int:
            for _ in range(delays.randrange(6)):
                await asyncio.sleep(0)
            return await batcher(item)

        assert await asyncio.gather(*map(call, items)) == [2 * item for item in items]
        return double.batches

    batches = asyncio.run(run())
    assert sorted(item for batch in batches for item in batch) == sorted(items)
    assert max(map(len, batches)) <= max_size


def test_a_failed_batch_fails_its_callers_and_no_others() -> None:
    async def reciprocals(items: list[int]) -> list[float]:
        await asyncio.sleep(0.01)
        return [1 / item for item in items]

    async def run() -> None:
        batcher = Batcher(reciprocals, limit=2)
        results = await asyncio.gather(*map(batcher, (1, 0, 2, 4)), return_exceptions=True)
        assert [type(result) for result in results] == [ZeroDivisionError, ZeroDivisionError, float, float]
        assert await batcher(8) == 1 / 8

    asyncio.run(run())


def test_too_few_results_are_an_error() -> None:
    async def forgetful(items: list[int]) -> list[int]:
        return items[1:]

    with pytest.raises(ValueError, match="0 results for 1 items"):
        asyncio.run(Batcher(forgetful, limit=2)(1))


def test_a_caller_that_gives_up_takes_nobody_along() -> None:
    async def run() -> list[list[int]]:
        double = Doubler(seconds=0.05)
        batcher = Batcher(double, limit=32)
        tasks = [asyncio.create_task(batcher(number)) for number in range(3)]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(batcher(3)))
        tasks.append(asyncio.create_task(batcher(4)))
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        tasks[3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result for result in results if not isinstance(result, BaseException)] == [2, 4, 8]
        return double.batches

    assert asyncio.run(run()) == [[0, 1, 2], [4]]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), limit=st.integers(1, 100))
def test_the_padded_size_of_a_batch_keeps_to_the_limit(lengths: list[int], limit: int) -> None:
    async def run() -> list[list[int]]:
        double = Doubler(seconds=0)
        batcher = Batcher(double, limit, size=lambda length: length)
        assert await asyncio.gather(*map(batcher, lengths)) == [2 * length for length in lengths]
        return double.batches

    batches = asyncio.run(run())
    assert [length for batch in batches for length in batch] == lengths
    for batch, following in zip(batches, [*batches[1:], []], strict=True):
        assert len(batch) == 1 or len(batch) * max(batch) <= limit
        if following:
            assert (len(batch) + 1) * max(*batch, following[0]) > limit, "the batch could have been larger"
