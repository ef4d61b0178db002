"""Splits put no query on two sides, are the same in every run, and leakage is an error."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.hashing import hash_unit
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.schema import JUDGEMENTS, QUERIES
from raylevance.data.splits import assign_folds, check_leakage, queries_of_split, split_by_query
from raylevance.data.text import normalised_query
from raylevance.errors import RaylevanceError

FRACTIONS = {"train": 0.6, "valid": 0.2, "test": 0.2}
QUICK = settings(max_examples=50, deadline=None)
TEXTS = st.lists(st.text("aAbB \t", min_size=1, max_size=4), min_size=1, max_size=40)


def queries(texts: list[str]) -> pa.Table:
    ids = [f"q{index}" for index in range(len(texts))]
    return pa.table({"query_id": ids, "query": texts, "locale": ["us"] * len(texts)}, schema=QUERIES)


def judgements(count: int, products: int = 5) -> pa.Table:
    rows = count * products
    return pa.table(
        {
            "query_id": [f"q{row // products}" for row in range(rows)],
            "product_id": [f"p{row * 7 % 101}" for row in range(rows)],
            "label": ["E"] * rows,
            "grade": [2] * rows,
            "source": ["human"] * rows,
            "confidence": [1.0] * rows,
            "split": [None] * rows,
        },
        schema=JUDGEMENTS,
    )


@QUICK
@given(texts=TEXTS, seed=st.integers(0, 5))
def test_no_query_is_in_two_splits(texts: list[str], seed: int) -> None:
    asked = queries(texts)
    split = split_by_query(judgements(len(texts)), asked, FRACTIONS, seed)
    text_of = dict(zip(asked["query_id"].to_pylist(), normalised_query(asked["query"]).to_pylist(), strict=True))
    sides: dict[str, set[str]] = {}
    for query, side in zip(split["query_id"].to_pylist(), split["split"].to_pylist(), strict=True):
        sides.setdefault(text_of[query], set()).add(side)
    assert all(len(names) == 1 for names in sides.values())
    for train, test in (("train", "test"), ("valid", "test")):
        if {train, test} <= set(split["split"].to_pylist()):
            check_leakage(queries_of_split(split, asked, train), queries_of_split(split, asked, test))


@QUICK
@given(texts=TEXTS, order=st.randoms())
def test_a_split_depends_on_the_text_alone(texts: list[str], order: random.Random) -> None:
    asked, judged = queries(texts), judgements(len(texts))
    expected = split_by_query(judged, asked, FRACTIONS)
    shuffled = list(range(asked.num_rows))
    order.shuffle(shuffled)
    more = pa.concat_tables([asked.take(shuffled), queries(["unrelated"]).set_column(0, QUERIES.field(0), [["x"]])])
    assert split_by_query(judged, more, FRACTIONS).equals(expected)


@QUICK
@given(texts=TEXTS, seed=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_few_queries_leave_no_split_empty(texts: list[str], seed: int, order: random.Random) -> None:
    """As many splits as there are texts have one; a query moves only where its hash leaves a split empty."""
    asked, rows = queries(texts), list(range(len(texts)))
    order.shuffle(rows)
    judged = judgements(len(texts), 1).take(rows)
    split = split_by_query(judged, asked, FRACTIONS, seed)["split"].to_pylist()
    normal = normalised_query(asked["query"]).take(rows)
    assert len(set(split)) == min(len(set(normal.to_pylist())), len(FRACTIONS))
    by_hash = [list(FRACTIONS)[sum(unit >= bound for bound in (0.6, 0.8))] for unit in hash_unit(normal, seed)]
    moved = {text for text, now, drawn in zip(normal.to_pylist(), split, by_hash, strict=True) if now != drawn}
    assert len(moved) <= len(set(FRACTIONS) - set(by_hash))


def test_a_split_of_no_share_stays_empty() -> None:
    split = split_by_query(judgements(5), queries(list("abcde")), {"train": 0.0, "test": 1.0})["split"]
    assert split.unique().to_pylist() == ["test"]


def test_shares_hold_in_expectation_and_the_seed_matters() -> None:
    texts = [f"query {index}" for index in range(5000)]
    first, second = (split_by_query(judgements(5000, 1), queries(texts), FRACTIONS, seed)["split"] for seed in (0, 1))
    counts = {item["values"]: item["counts"] / 5000 for item in pc.value_counts(first).to_pylist()}
    assert counts == pytest.approx(FRACTIONS, abs=0.02)
    assert not first.equals(second)


@QUICK
@given(texts=TEXTS, folds=st.integers(1, 4))
def test_folds_are_even_and_keep_a_text_together(texts: list[str], folds: int) -> None:
    asked = queries(texts)
    normal = normalised_query(asked["query"]).to_pylist()
    if len(set(normal)) < folds:
        with pytest.raises(RaylevanceError, match="too few"):
            assign_folds(asked, folds)
        return
    fold_of = dict(zip(normal, assign_folds(asked, folds).tolist(), strict=True))
    assert [fold_of[text] for text in normal] == assign_folds(asked, folds).tolist()
    sizes = np.bincount(list(fold_of.values()), minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_leakage_names_the_query() -> None:
    train = pa.table({"query_id": ["1", "2"], "query": ["Red  shoes", "mug"]})
    test = pa.table({"query_id": ["3", "2", "4"], "query": ["red shoes", "another text", "rug"]})
    with pytest.raises(RaylevanceError, match=r"2 of 3 test queries .* 'another text' \(2\), 'red shoes' \(3\)"):
        check_leakage(train, test)
    check_leakage(train, test.slice(2))
    with pytest.raises(RaylevanceError, match="the test split is empty"):
        check_leakage(train, test.slice(3))


def test_an_empty_split_says_which_there_are() -> None:
    split = split_by_query(judgements(3), queries(["a", "b", "c"]), {"train": 1.0})
    with pytest.raises(RaylevanceError, match=r"split 'test' is empty: .* \(splits here: train\); write test in"):
        queries_of_split(split, queries(["a", "b", "c"]), "test")


def test_a_judgement_of_no_query_is_an_error() -> None:
    with pytest.raises(RaylevanceError, match="'q1': no such query_id"):
        split_by_query(judgements(2), queries(["a"]), FRACTIONS)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_fewer_queries_are_among_more_of_them_in_any_order(
    few: int, more: int, seed: int, order: random.Random
) -> None:
    ids = [f"q{number}" for number in range(30)]
    order.shuffle(ids)
    pairs = [(query, f"p{number}") for query in ids for number in range(3)]
    order.shuffle(pairs)
    judgements = pa.table({"query_id": [query for query, _ in pairs], "product_id": [product for _, product in pairs]})
    judged = JudgedTables(pa.table({"product_id": ["p0", "p1", "p2"]}), pa.table({"query_id": ids}), judgements)
    smaller, larger = (judged.first_queries(count, seed) for count in sorted((few, more)))
    kept = [set(each.queries["query_id"].to_pylist()) for each in (smaller, larger)]
    assert kept[0] <= kept[1] and [len(each) for each in kept] == [min(30, count) for count in sorted((few, more))]
    for each, names in zip((smaller, larger), kept, strict=True):
        assert each.judgements.num_rows == 3 * len(names) and set(each.judgements["query_id"].to_pylist()) == names
        assert each.products.num_rows == 3
