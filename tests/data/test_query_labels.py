"""Labels of queries: those of judged products, and several sources merged into one row for each query and task."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.judged_tables import JudgedTables
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import category_labels, column_labels
from raylevance.data.query_labels import (
    QUERY_LABELS,
    labels_of_judgements,
    labels_of_pairs,
    merge_query_labels,
    without_queries,
)
from raylevance.data.schema import JUDGEMENTS, PRODUCTS, QUERIES
from raylevance.errors import RaylevanceError

PRODUCTS_OF = {
    "k1": (["Home", "Kettles"], "Acme"),
    "k2": (["Home", "Kettles"], None),
    "p1": (["Home", "Pans"], "Zeta"),
    "t1": (["Toys"], "Acme"),
    "n1": (None, None),
}
KETTLES, PANS, TOYS, ACME, ZETA = 1, 2, 3, 4, 5


def products(order: Sequence[str] = tuple(PRODUCTS_OF)) -> pa.Table:
    rows = [
        {"product_id": name, "title": name, "category": PRODUCTS_OF[name][0], "brand": PRODUCTS_OF[name][1]}
        for name in order
    ]
    return pa.Table.from_pylist(rows, PRODUCTS)


def space() -> LabelSpace:
    return LabelSpace(pa.concat_tables([category_labels(products()), column_labels(products(), "brand")]))


def judged(*rows: tuple[str, str, int], queries: dict[str, str], seed: int = 0) -> JudgedTables:
    shuffled = random.Random(seed).sample
    judgements = [
        {"query_id": query, "product_id": product, "grade": grade, "source": "human"} for query, product, grade in rows
    ]
    texts = [{"query_id": query, "query": text} for query, text in queries.items()]
    return JudgedTables(
        products(shuffled(list(PRODUCTS_OF), len(PRODUCTS_OF))),
        pa.Table.from_pylist(shuffled(texts, len(texts)), QUERIES),
        pa.Table.from_pylist(shuffled(judgements, len(judgements)), JUDGEMENTS),
    )


def as_dict(rows: pa.Table) -> dict[tuple[str, str], dict[int, float]]:
    found = {
        (row["query"], row["task"]): dict(zip(row["labels"], row["targets"], strict=True)) for row in rows.to_pylist()
    }
    assert len(found) == rows.num_rows
    return found


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_the_products_of_a_grade(capsys: pytest.CaptureFixture[str], seed: int) -> None:
    """Two ids with one text are one query; a pair that is judged twice counts once."""
    data = judged(
        ("1", "k1", 2),
        ("1", "k1", 2),
        ("2", "p1", 2),
        ("2", "n1", 2),
        ("1", "t1", 1),
        ("3", "n1", 2),
        ("4", "t1", 0),
        queries={"1": "Steel  Pot", "2": "steel pot", "3": "nothing", "4": "toys"},
        seed=seed,
    )
    rows = labels_of_judgements(data, space())
    assert rows.schema == QUERY_LABELS
    assert as_dict(rows) == {
        ("steel pot", "category"): {KETTLES: 1, PANS: 1},
        ("steel pot", "brand"): {ACME: 1, ZETA: 1},
    }
    assert rows["task"].to_pylist() == ["category", "brand"]
    assert set(rows["source"].to_pylist()) == {"judgements"}
    assert "1 queries of judgements have no product with a label" in capsys.readouterr().err
    assert as_dict(labels_of_judgements(data, space(), grade=1))["steel pot", "category"] == {
        KETTLES: 1,
        PANS: 1,
        TOYS: 1,
    }


def test_unknown_queries_and_products_are_named() -> None:
    with pytest.raises(RaylevanceError, match="judgements of query '9': no such query_id"):
        labels_of_judgements(judged(("9", "k1", 2), queries={"1": "a"}), space())
    with pytest.raises(RaylevanceError, match="judgements: product 'zz' is not among the products"):
        labels_of_judgements(judged(("1", "zz", 2), queries={"1": "a"}), space())


def test_pairs_of_synthetic_queries() -> None:
    rows = labels_of_pairs(pa.array(["A Kettle"]), pa.array(["k1"]), products(), space(), "synthetic", 0.5)
    assert rows["weight"].to_pylist() == [0.5, 0.5]
    assert as_dict(rows) == {("a kettle", "category"): {KETTLES: 1}, ("a kettle", "brand"): {ACME: 1}}


def table(*rows: tuple[str | None, str, dict[int, float], str, float]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "query": query,
                "task": task,
                "labels": list(labels),
                "targets": list(labels.values()),
                "source": source,
                "weight": weight,
            }
            for query, task, labels, source, weight in rows
        ],
        QUERY_LABELS,
    )


def test_sources_are_merged_and_counted() -> None:
    clicks = table(
        ("Red  Mug", "category", {2: 1.0, 1: 0.5}, "clicks", 1.0),
        ("red mug", "brand", {4: 1.0}, "clicks", 1.0),
        (" ", "category", {1: 1.0}, "clicks", 1.0),
        (None, "category", {1: 1.0}, "clicks", 1.0),
        ("tea", "category", {}, "clicks", 1.0),
    )
    titles = table(
        ("red mug", "category", {1: 0.75, 3: 0.25}, "titles", 0.25), ("pot", "category", {2: 1.0}, "titles", 0.25)
    )
    merged, report = merge_query_labels([titles, clicks])
    assert merged.to_pylist() == [
        {"query": "pot", "task": "category", "labels": [2], "targets": [1.0], "source": "titles", "weight": 0.25},
        {
            "query": "red mug",
            "task": "category",
            "labels": [1, 2, 3],
            "targets": [0.75, 1.0, 0.25],
            "source": "clicks",
            "weight": 1.0,
        },
        {"query": "red mug", "task": "brand", "labels": [4], "targets": [1.0], "source": "clicks", "weight": 1.0},
    ]
    assert report == {
        "rows": 3,
        "queries": 2,
        "labels": 5,
        "sources": {
            "titles": {
                "queries": 2,
                "labels": 3,
                "labels_of_no_other": 2,
                "rows_without_text": 0,
                "rows_without_labels": 0,
            },
            "clicks": {
                "queries": 1,
                "labels": 3,
                "labels_of_no_other": 2,
                "rows_without_text": 2,
                "rows_without_labels": 1,
            },
        },
    }
    reweighed, _ = merge_query_labels([titles, clicks], {"titles": 2.0})
    assert reweighed["weight"].to_pylist() == [2.0, 2.0, 1.0]
    alone, _ = merge_query_labels([titles, clicks], {"clicks": 0.0})
    assert as_dict(alone) == {("red mug", "category"): {1: 0.75, 3: 0.25}, ("pot", "category"): {2: 1.0}}


TEXTS = st.sampled_from(["tea", "Tea ", "red  mug", "RED MUG", "pot", "", None])
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.booleans(),
        st.dictionaries(st.integers(0, 4), st.sampled_from([0.25, 0.5, 1.0]), max_size=4),
        st.sampled_from("abc"),
        st.sampled_from([0.25, 0.5, 1.0]),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(ROWS, st.randoms())
def test_merging_equals_plain_counting(rows: list[Any], random: Any) -> None:
    """Labels 0 to 4 are of the task x, and 5 to 9 of the task y, for every order of the rows."""
    rows = [
        (text, "y" if second else "x", {label + 5 * second: target for label, target in labels.items()}, source, weight)
        for text, second, labels, source, weight in rows
    ]
    expected: dict[tuple[str, str], dict[int, float]] = {}
    weights: dict[tuple[str, str], float] = {}
    for text, task, labels, _, weight in rows:
        query = " ".join((text or "").lower().split())
        if query and labels:
            known = expected.setdefault((query, task), {})
            known.update({label: max(target, known.get(label, 0)) for label, target in labels.items()})
            weights[query, task] = max(weight, weights.get((query, task), 0))
    if not expected:
        with pytest.raises(RaylevanceError, match="none of the"):
            merge_query_labels([table(*rows)])
        return
    merged, report = merge_query_labels([table(*rows)])
    assert as_dict(merged) == expected
    assert {(row["query"], row["task"]): row["weight"] for row in merged.to_pylist()} == weights
    assert report["labels"] == sum(map(len, expected.values()))
    shuffled = random.sample(rows, len(rows))
    again, report_again = merge_query_labels([table(*shuffled[::2]), table(*shuffled[1::2])])
    assert again.drop_columns(["source"]).equals(merged.drop_columns(["source"]))
    assert report_again == report
    twice, _ = merge_query_labels([merged, merged])
    assert twice.equals(merged)


@pytest.mark.parametrize("target", [0.0, -0.5, 1.5, float("nan"), None])
def test_a_target_out_of_range(target: float | None) -> None:
    bad = table(("tea", "x", {1: 1.0}, "a", 1.0), ("Pot", "x", {2: 1.0, 3: target}, "b", 1.0))  # type: ignore[dict-item]
    with pytest.raises(RaylevanceError, match=r"query 'pot' of b: the target \S+ is not above 0 and at most 1"):
        merge_query_labels([bad])


def test_labels_and_targets_of_different_lengths() -> None:
    bad = table(("tea", "x", {1: 1.0}, "a", 1.0))
    bad = bad.set_column(3, QUERY_LABELS.field("targets"), pa.array([[1.0, 1.0]], pa.list_(pa.float32())))
    with pytest.raises(RaylevanceError, match="query 'tea' of a: give each of its labels one target"):
        merge_query_labels([bad])


def test_held_out_queries_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(("red mug", "x", {1: 1.0}, "a", 1.0), ("tea", "x", {1: 1.0}, "a", 1.0))
    left = without_queries(rows, pa.chunked_array([["RED  mug"], ["other", None]]))
    assert left["query"].to_pylist() == ["tea"]
    assert "1 rows of query labels are of held-out queries" in capsys.readouterr().err
    assert without_queries(rows, pa.array([], pa.string())).equals(rows)


def test_a_sliced_table_is_read_from_its_place() -> None:
    rows = table(*(("tea", "x", {label: 1.0}, "a", 1.0) for label in range(4)))
    merged, _ = merge_query_labels([rows.slice(2)])
    np.testing.assert_array_equal(merged["labels"][0].as_py(), [2, 3])
