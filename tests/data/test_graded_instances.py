"""Training instances contain every judged pair of a query with two grades once, and have two grades each."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.graded_instances import (
    SCHEMA,
    InstanceSettings,
    chunk_by_grade,
    sample_per_grade,
    soften,
    write_instances,
)
from raylevance.data.schema import JUDGEMENTS, PRODUCTS, QUERIES
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError

GRADES = {
    "three": [2, 1, 0],
    "ends": [2, 0, 0],
    "low": [1, 0],
    "high": [1, 2],
    "all relevant": [2, 2],
    "lone": [0],
    "big": [0] * 50 + [2],
}


@settings(max_examples=200, deadline=None)
@given(grades=st.lists(st.integers(0, 2), min_size=1, max_size=120), max_items=st.integers(4, 20))
def test_deal_keeps_every_item_and_every_grade(grades: list[int], max_items: int) -> None:
    ordered = np.array(sorted(grades, reverse=True), np.int8)
    chunks = chunk_by_grade(ordered, max_items)
    assert set(np.concatenate(chunks).tolist()) == set(range(len(ordered)))
    for chunk in chunks:
        assert len(set(chunk.tolist())) == len(chunk) <= max_items
        assert set(ordered[chunk]) == set(ordered)
        assert (np.diff(ordered[chunk]) <= 0).all()


def judged_pairs() -> pa.Table:
    columns = {
        "query_id": ["big"] * 60 + ["small"] * 3,
        "product_id": [f"p{number}" for number in (*range(60), *range(3))],
        "grade": pa.array([0] * 40 + [2] * 20 + [0, 1, 2], pa.int8()),
    }
    return pa.table(columns)


def test_strata_are_queries_and_grades() -> None:
    judged = judged_pairs()
    sampled = sample_per_grade(judged, 5, seed=0)
    counts = Counter(zip(sampled["query_id"].to_pylist(), sampled["grade"].to_pylist(), strict=True))
    assert counts == {("big", 0): 5, ("big", 2): 5, ("small", 0): 1, ("small", 1): 1, ("small", 2): 1}
    assert set(map(str, sampled.to_pylist())) <= set(map(str, judged.to_pylist()))
    assert sample_per_grade(judged, 5, seed=0).equals(sampled) and not sample_per_grade(judged, 5, seed=1).equals(
        sampled
    )
    backwards = sample_per_grade(judged.take(pa.array(range(62, -1, -1))), 5, seed=0)
    assert set(map(str, backwards.to_pylist())) == set(map(str, sampled.to_pylist()))
    assert (
        sample_per_grade(judged, 60, seed=0).equals(judged)
        and sample_per_grade(judged.slice(0, 0), 5, seed=0).num_rows == 0
    )


def tables(seed: int = 0) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return judgements, queries and products, each in the order that `seed` draws, and in several chunks."""
    pairs = [(query, f"p{number}", grade) for query, grades in GRADES.items() for number, grade in enumerate(grades)]
    judged = pa.Table.from_pylist(
        [
            {"query_id": query, "product_id": product, "grade": grade, "source": "human"}
            for query, product, grade in pairs
        ],
        JUDGEMENTS,
    )
    queries = pa.Table.from_pylist([{"query_id": query, "query": f"text of {query}"} for query in GRADES], QUERIES)
    products = pa.Table.from_pylist([{"product_id": f"p{n}", "title": f"title {n}"} for n in range(60)], PRODUCTS)
    random = np.random.default_rng(seed)
    shuffled = (table.take(pa.array(random.permutation(table.num_rows))) for table in (judged, queries, products))
    judged, queries, products = (pa.concat_tables([table.slice(0, 3), table.slice(3)]) for table in shuffled)
    return judged, queries, products


def read(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = sorted(
        pq.read_table(folder, schema=SCHEMA).to_pylist(), key=lambda row: (row["query_id"], row["product_ids"])
    )
    return rows


def test_instances_of_all_shapes(tmp_path: Path) -> None:
    summary = write_instances(*tables(), tmp_path / "out", ProductText(), InstanceSettings(max_items=20))
    rows = read(tmp_path / "out")
    assert (summary.instances, summary.one_grade) == (len(rows), 2)
    by_query = Counter(row["query_id"] for row in rows)
    assert by_query == {"three": 1, "ends": 1, "low": 1, "high": 1, "big": 3}
    for row in rows:
        assert row["query"] == f"text of {row['query_id']}"
        assert row["items"] == [f"title {name[1:]}" for name in row["product_ids"]]
        assert row["labels"] == [GRADES[row["query_id"]][int(name[1:])] for name in row["product_ids"]]
        assert row["labels"] == sorted(row["labels"], reverse=True)
        assert len(set(row["labels"])) > 1
    big = Counter(name for row in rows if row["query_id"] == "big" for name in row["product_ids"])
    assert big == {f"p{n}": 1 for n in range(50)} | {"p50": 3}


def test_files_of_any_size_and_rows_in_any_order_make_the_same_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write_instances(*tables(), tmp_path / "one", ProductText(), InstanceSettings())
    monkeypatch.setattr("raylevance.data.graded_instances.JUDGEMENTS_AT_ONCE", 4)
    for name, seed in (("several", 0), ("shuffled", 1)):
        assert write_instances(*tables(seed), tmp_path / name, ProductText(), InstanceSettings()) == one
    assert len(list((tmp_path / "several").iterdir())) > 1
    assert read(tmp_path / "several") == read(tmp_path / "one")
    parts = [[part.read_bytes() for part in sorted((tmp_path / name).iterdir())] for name in ("several", "shuffled")]
    assert parts[0] == parts[1]


def test_judgements_of_other_queries_and_products_are_left_out(tmp_path: Path) -> None:
    judged, queries, products = tables()
    queries = queries.filter(pc.not_equal(queries["query_id"], "ends"))
    products = products.filter(pc.not_equal(products["product_id"], "p1"))
    summary = write_instances(judged, queries, products, tmp_path / "out", ProductText(), InstanceSettings())
    assert summary.unknown == 3 + 5
    found = {row["query_id"]: row["product_ids"] for row in read(tmp_path / "out")}
    assert found["three"] == ["p0", "p2"] and found.keys() == {"three", "big"}


def test_soft_labels_are_the_mean_of_the_grade(tmp_path: Path) -> None:
    """A judge's grade with the confidence c; the rest is that of its neighbours, half each where it has two."""
    judge, neighbours = "llm:x", {0: [1], 1: [0, 2], 2: [1]}
    rows = [
        ("a", 2, 0.9, judge), ("b", 2, None, judge), ("c", 2, 0.8, "human"),
        ("d", 1, 0.6, judge), ("e", 0, 0.7, judge), ("f", 0, 0.2, "human"),
    ]  # fmt: skip
    columns = ("product_id", "grade", "confidence", "source")
    pairs = [{"query_id": "q", **dict(zip(columns, row, strict=True))} for row in rows]
    judged = pa.Table.from_pylist(pairs, JUDGEMENTS)
    queries = pa.Table.from_pylist([{"query_id": "q", "query": "lamp"}], QUERIES)
    products = pa.Table.from_pylist([{"product_id": name, "title": name} for name, *_ in rows], PRODUCTS)
    expected = [
        c * grade + (1 - c) * float(np.mean(neighbours[grade])) if c and source == judge else grade
        for _, grade, c, source in rows
    ]
    found = {}
    for soft in (True, False):
        settings = InstanceSettings(soft_labels=soft)
        write_instances(judged, queries, products, tmp_path / str(soft), ProductText(), settings)
        (found[soft],) = read(tmp_path / str(soft))
    assert found[True]["product_ids"] == found[False]["product_ids"] == ["a", "b", "c", "d", "e", "f"]
    assert found[True]["labels"] == pytest.approx(expected) and found[False]["labels"] == [2, 2, 2, 1, 0, 0]


@given(grade=st.integers(0, 2), confidence=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_a_soft_label_is_nearest_to_its_own_grade(grade: int, confidence: float) -> None:
    row = {"query_id": "q", "product_id": "p", "grade": grade, "confidence": confidence, "source": "llm:x"}
    (label,) = soften(pa.Table.from_pylist([row], JUDGEMENTS)).to_pylist()
    assert abs(label - grade) < 0.5


def test_no_query_with_two_grades(tmp_path: Path) -> None:
    judged, queries, products = tables()
    relevant = judged.filter(pc.equal(judged["query_id"], "all relevant"))
    with pytest.raises(RaylevanceError, match="none of 1 judged queries has products of two grades"):
        write_instances(relevant, queries, products, tmp_path / "out", ProductText(), InstanceSettings())
