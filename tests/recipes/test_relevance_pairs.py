"""Pairs labelled by behaviour: no query has the same product as relevant and as not relevant."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.schema import ACTIONS
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.edges import COUNT_SCHEMA
from raylevance.graph.sampling import PAIR_SCHEMA
from workloads.steps.graph_texts import GraphTexts
from workloads.steps.relevance_pairs import BehaviourPairs, LabelledPairs, relevance_rows
from workloads.steps.weak_baselines import level_rows

NOTHING = Csr.from_edges(np.zeros(0, int), np.zeros(0, int), np.zeros(0), (0, 0))


def graph_texts(queries: Sequence[str], items: Sequence[str], edges: Sequence[tuple[int, int]]) -> GraphTexts:
    rows, columns = np.array(edges, np.int64).reshape(-1, 2).T
    joined = Csr.from_edges(rows, columns, np.ones(len(rows)), (len(queries), len(items)))
    ids = (
        pa.array([f"{side}{number}" for number in range(len(texts))]) for side, texts in (("q", queries), ("p", items))
    )
    graph = BehaviourGraph(*ids, joined, NOTHING, NOTHING, NOTHING)
    return GraphTexts(graph, pa.array(queries), pa.array(items), pa.array([["Home"]] * len(items)))


def sampled(*pairs: tuple[int, int, list[int]]) -> pa.Table:
    rows = [
        {"kind": "query-item", "anchor": query, "positive": item, "negatives": negatives}
        for query, item, negatives in pairs
    ]
    other = [{"kind": kind, "anchor": 0, "positive": 0, "negatives": [0]} for kind in ("item-query", "query-query")]
    return pa.Table.from_pylist([*rows, *other], PAIR_SCHEMA)


def labels(rows: pa.Table) -> list[tuple[str, str, int]]:
    return [(row["query"], row["product_text"], row["label"]) for row in rows.to_pylist()]


def test_positives_come_first_and_other_kinds_are_left_out() -> None:
    nodes = graph_texts(["ask 0", "ask 1"], ["thing 0", "thing 1", "thing 2"], [(0, 0), (1, 2)])
    rows = BehaviourPairs(nodes, sampled((0, 0, [2, 1]), (1, 2, [])), 0.3).rows()
    assert labels(rows) == [
        ("ask 0", "thing 0", 1),
        ("ask 1", "thing 2", 1),
        ("ask 0", "thing 2", 0),
        ("ask 0", "thing 1", 0),
    ]
    assert {(row["source"], round(row["weight"], 6)) for row in rows.to_pylist()} == {("behaviour", 0.3)}


def test_another_listing_of_a_clicked_product_is_no_negative(capfd: pytest.CaptureFixture[str]) -> None:
    """Item 2 has the text of item 0, in other case; query 1 has that of query 0, and item 3 was clicked for it."""
    items = ["thing 0", "thing 1", "Thing  0", "thing 3"]
    nodes = graph_texts(["ask", "ASK"], items, [(0, 0), (1, 3)])
    rows = BehaviourPairs(nodes, sampled((0, 0, [2, 3, 1])), 0.3).rows()
    assert labels(rows) == [("ask", "thing 0", 1), ("ask", "thing 1", 0)]
    assert "behaviour pairs: 2 of 4 are left out" in capfd.readouterr().err


TEXTS = st.lists(st.sampled_from(["red lamp", "Red  lamp", "sock", "desk"]), min_size=5, max_size=5)
PAIRS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.lists(st.integers(0, 4), max_size=4)), min_size=1, max_size=6
)


def folded(text: str) -> str:
    return " ".join(text.lower().split())


@given(TEXTS, TEXTS, PAIRS, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_pair_of_texts_has_two_labels(
    queries: list[str], items: list[str], pairs: list[tuple[int, int, list[int]]], more: list[tuple[int, int]]
) -> None:
    clicked = sorted({*more, *((query, item) for query, item, _ in pairs)})
    rows = labels(BehaviourPairs(graph_texts(queries, items, clicked), sampled(*pairs), 0.3).rows())
    found = {(folded(query), folded(text)): label for query, text, label in rows}
    assert len(found) == len(rows)
    wanted = {(folded(queries[query]), folded(items[item])) for query, item, _ in pairs}
    drawn = {(folded(queries[query]), folded(items[other])) for query, _, others in pairs for other in others}
    never = {(folded(queries[query]), folded(items[item])) for query, item in clicked}
    assert found == dict.fromkeys(wanted, 1) | dict.fromkeys(drawn - never, 0)


def test_what_people_say_about_a_pair_counts(capfd: pytest.CaptureFixture[str]) -> None:
    nodes = graph_texts(["ask"], ["thing 0", "thing 1", "thing 2"], [(0, 0), (0, 1)])
    human = LabelledPairs(["x", "y"], ["Ask", "ask"], ["thing  0", "thing 1"], np.array([0, 1], np.int8))
    joined = relevance_rows(human, BehaviourPairs(nodes, sampled((0, 0, [2]), (0, 1, [])), 0.3))
    assert labels(joined) == [
        ("Ask", "thing  0", 0),
        ("ask", "thing 1", 1),
        ("ask", "thing 1", 1),
        ("ask", "thing 2", 0),
    ]
    assert "behaviour pairs: 1 of 3 are left out, as people judged them otherwise" in capfd.readouterr().err


@given(TEXTS, TEXTS, st.lists(st.tuples(*[st.integers(0, 4)] * 6), min_size=1, max_size=8), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_pairs_by_engagement_have_one_label(
    queries: list[str], items: list[str], counted: list[tuple[int, ...]], seed: int
) -> None:
    """The random products that are taken for not relevant are among few, so that many were chosen."""
    seen = {(row[0], row[1]): row[2:] for row in counted}
    columns = [[*pair, *counts] for pair, counts in sorted(seen.items())]
    counts = pa.table(dict(zip(COUNT_SCHEMA.names, zip(*columns, strict=True), strict=True)), schema=COUNT_SCHEMA)
    rows = labels(level_rows(counts, graph_texts(queries, items, sorted(seen)), seed))
    found = {(folded(query), folded(text)): label for query, text, label in rows}
    assert len(found) == len(rows)
    chosen = {pair for pair, actions in seen.items() if any(actions[ACTIONS.index(name)] for name in ACTIONS[1:])}
    assert {(folded(queries[query]), folded(items[item])) for query, item in chosen} == {
        pair for pair, label in found.items() if label
    }
