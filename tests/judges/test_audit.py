"""The engagement audit against a naive loop: which labels are judged again, and how the replaced ones are kept."""

import math
import random
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.schema import EVENTS, JUDGEMENTS
from raylevance.errors import RaylevanceError
from raylevance.judges.audit import (
    CORRECTIONS,
    ENGAGEMENT,
    HIGH_ENGAGEMENT,
    LOW_ENGAGEMENT,
    REJUDGED,
    AuditSettings,
    apply_corrections,
    audit,
    count_engagement,
    query_normalised_rates,
)

EVERY = AuditSettings(sampled=1.0, min_exposures=5)
QUICK = settings(max_examples=40, deadline=None)


def judgements(rows: list[tuple[str, str, int]]) -> pa.Table:
    names = ("query_id", "product_id", "grade")
    more = {"source": "human", "label": "E", "confidence": 0.5}
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) | more for row in rows], JUDGEMENTS)


def shop(seed: int, queries: int = 12, products: int = 25) -> tuple[pa.Table, pa.Table]:
    """Random judgements, and the engagement of most of their pairs and of some others."""
    random_ = random.Random(seed)
    labels, engaged = [], []
    for query in range(queries):
        rate = random_.choice([0.0, 0.05, 0.3])
        for product in range(products):
            if random_.random() < 0.8:
                labels.append((f"q{query}", f"p{product}", random_.choice([0, 1, 2])))
            if random_.random() < 0.7:
                exposures = random_.randrange(60)
                clicks = sum(random_.random() < rate for _ in range(exposures))
                carts = random_.randint(0, clicks)
                engaged.append((f"q{query}", f"p{product}", exposures, clicks, carts, random_.randint(0, carts)))
    rows = [dict(zip(ENGAGEMENT.names, row, strict=True)) for row in engaged]
    return judgements(labels), pa.Table.from_pylist(rows, ENGAGEMENT)


def ones(labels: pa.Table) -> pa.Table:
    """A second judge that gives grade 1 to every pair."""
    row = {"grade": 1, "confidence": 0.9, "source": "llm:second"}
    return pa.Table.from_pylist([row] * labels.num_rows, REJUDGED)


def naive_disputes(labels: pa.Table, engaged: pa.Table, chosen: AuditSettings) -> dict[tuple[str, str], str]:
    rows = engaged.to_pylist()
    shown: dict[str, float] = defaultdict(float)
    acted: dict[str, float] = defaultdict(float)
    for row in rows:
        shown[row["query_id"]] += row["exposures"]
        acted[row["query_id"]] += row["clicks"] + row["carts"] + row["purchases"]
    rates = {}
    for row in rows:
        query = row["query_id"]
        if row["exposures"] < chosen.min_exposures:
            continue
        rates[query, row["product_id"]] = 1.0
        if acted[query]:
            mean = acted[query] / shown[query]
            actions = row["clicks"] + row["carts"] + row["purchases"] + chosen.prior_exposures * mean
            rates[query, row["product_id"]] = actions / (row["exposures"] + chosen.prior_exposures) / mean
    ordered = sorted(rates.values())
    low = ordered[math.floor(chosen.tail * (len(ordered) - 1))]
    high = ordered[math.ceil((1 - chosen.tail) * (len(ordered) - 1))]
    found = {}
    for row in labels.to_pylist():
        pair = row["query_id"], row["product_id"]
        rate = rates.get(pair, 1.0)
        if row["grade"] == 0 and rate > 1 and rate >= high:
            found[pair] = HIGH_ENGAGEMENT
        if row["grade"] == 2 and rate < 1 and rate <= low:
            found[pair] = LOW_ENGAGEMENT
    return found


@QUICK
@given(seed=st.integers(0, 10_000))
def test_disagreements_are_those_of_a_naive_loop(seed: int) -> None:
    labels, engaged = shop(seed)
    result = audit(labels, engaged, ones, EVERY)
    expected = naive_disputes(labels, engaged, EVERY)
    rows = result.corrections.to_pylist()
    assert {(row["query_id"], row["product_id"]): row["kind"] for row in rows} == expected
    assert result.corrections.schema.equals(CORRECTIONS)
    assert result.summary.disagreements == {HIGH_ENGAGEMENT: 0, LOW_ENGAGEMENT: 0} | Counter(expected.values())


def test_an_audit_finds_both_kinds_and_counts_what_changes() -> None:
    labels, engaged = shop(3)

    def undecided(disputed: pa.Table) -> pa.Table:
        grades = [[None, 0, 2][row % 3] for row in range(disputed.num_rows)]
        return ones(disputed).set_column(0, REJUDGED.field("grade"), pa.array(grades, pa.int8()))

    corrections, summary = audit(labels, engaged, undecided, EVERY)
    assert summary.labels == summary.sampled == labels.num_rows
    assert min(summary.disagreements.values()) > 2 and min(summary.changed.values()) > 0
    assert sum(summary.changed.values()) == corrections.num_rows < sum(summary.disagreements.values())
    disputed = sum(summary.disagreements.values())
    assert sum(summary.not_judged.values()) == -(-disputed // 3), "a third has no grade, which confirms no label"
    assert summary.changed_share == corrections.num_rows / (disputed - sum(summary.not_judged.values()))
    assert all(row["grade"] != row["previous_grade"] for row in corrections.to_pylist())


@QUICK
@given(seed=st.integers(0, 10_000))
def test_only_corrected_labels_change_and_keep_their_past(seed: int) -> None:
    labels, engaged = shop(seed)
    corrections = audit(labels, engaged, ones, EVERY).corrections
    corrected = apply_corrections(labels, corrections).to_pylist()
    changed = {(row["query_id"], row["product_id"]) for row in corrections.to_pylist()}
    known = {(row["query_id"], row["product_id"]) for row in engaged.to_pylist()}
    assert changed <= known
    for old, new in zip(labels.to_pylist(), corrected, strict=True):
        past: dict[str, Any] = {"previous_grade": None, "previous_source": None}
        if (old["query_id"], old["product_id"]) in changed:
            past = {"previous_grade": old["grade"], "previous_source": "human"}
            old |= {"grade": 1, "source": "llm:second", "confidence": pytest.approx(0.9)}
        assert new == old | past


def test_a_second_audit_keeps_the_past_of_the_first() -> None:
    labels, engaged = shop(3)
    once = apply_corrections(labels, audit(labels, engaged, ones, EVERY).corrections)
    twice = apply_corrections(once, audit(once, engaged, ones, EVERY).corrections)
    assert twice.equals(once)


def test_the_other_label_of_a_pair_stays() -> None:
    labels, engaged = shop(3)
    corrections = audit(labels, engaged, ones, EVERY).corrections
    other = labels.set_column(4, JUDGEMENTS.field("source"), pa.array(["llm:first"] * labels.num_rows))
    assert apply_corrections(other, corrections).select(JUDGEMENTS.names).equals(other)


def test_the_sample_is_a_share_and_stays_when_rows_are_added() -> None:
    labels = judgements([(f"q{row % 97}", f"p{row}", row % 3) for row in range(6000)])
    engaged = pa.table(
        [labels["query_id"], labels["product_id"], *([[40] * 6000] + [[row % 7 for row in range(6000)]] * 3)],
        ENGAGEMENT,
    )
    chosen = AuditSettings()
    result = audit(labels, engaged, ones, chosen)
    assert abs(result.summary.sampled - 1800) < 4 * (6000 * 0.3 * 0.7) ** 0.5
    assert 0 < result.corrections.num_rows < audit(labels, engaged, ones, EVERY).corrections.num_rows
    pairs = set(zip(*(result.corrections[name].to_pylist() for name in ("query_id", "product_id")), strict=True))
    order = list(range(6000))
    random.Random(1).shuffle(order)
    more = judgements([("other", f"p{row}", 0) for row in range(500)])
    grown = audit(pa.concat_tables([more, labels.take(order)]), engaged, ones, chosen).corrections
    assert set(zip(*(grown[name].to_pylist() for name in ("query_id", "product_id")), strict=True)) == pairs
    other = audit(labels, engaged, ones, AuditSettings(seed=1)).corrections
    assert not other.equals(result.corrections)


def test_the_sample_is_the_same_on_any_machine() -> None:
    labels = judgements([("q", f"p{row}", 1) for row in range(1000)])
    assert audit(labels, ENGAGEMENT.empty_table(), ones).summary.sampled == 282


def test_rates_are_relative_to_the_query() -> None:
    broad = [("broad", f"p{n}", 100, clicks, 0, 0) for n, clicks in enumerate([1, 2, 3])]
    narrow = [("narrow", f"p{n}", 100, clicks, 0, 0) for n, clicks in enumerate([10, 20, 30])]
    silent = [("silent", "p0", 100, 0, 0, 0)]
    rows = [dict(zip(ENGAGEMENT.names, row, strict=True)) for row in broad + narrow + silent]
    engaged = pa.Table.from_pylist(rows, ENGAGEMENT)
    np.testing.assert_allclose(query_normalised_rates(engaged, 0), [0.5, 1, 1.5, 0.5, 1, 1.5, 1])
    np.testing.assert_allclose(query_normalised_rates(engaged, 100), [0.75, 1, 1.25, 0.75, 1, 1.25, 1])


def test_engagement_counts_the_actions_of_searches() -> None:
    actions = [("q1", "a", "exposure")] * 3 + [("q1", "a", "click"), ("q1", "b", "cart"), ("q2", "a", "purchase")]
    rows = [
        {"request_id": "r", "query_id": query, "product_id": product, "action": action, "timestamp": 0}
        for query, product, action in [*actions, (None, "a", "click")]
    ]
    counted = count_engagement(pa.Table.from_pylist(rows, EVENTS)).sort_by(
        [("query_id", "ascending"), ("product_id", "ascending")]
    )
    assert [tuple(row.values()) for row in counted.to_pylist()] == [
        ("q1", "a", 3, 1, 0, 0),
        ("q1", "b", 0, 0, 1, 0),
        ("q2", "a", 0, 0, 0, 1),
    ]


def test_nothing_to_audit() -> None:
    def never(labels: pa.Table) -> pa.Table:
        raise AssertionError("asked about nothing")

    labels, engaged = shop(1)
    rare = AuditSettings(sampled=1.0, min_exposures=10_000)
    nothing = count_engagement(EVENTS.empty_table())
    for some, behaviour, chosen in (
        (JUDGEMENTS.empty_table(), engaged, EVERY),
        (labels, nothing, EVERY),
        (labels, engaged, rare),
        (JUDGEMENTS.empty_table(), nothing, EVERY),
    ):
        corrections, summary = audit(some, behaviour, never, chosen)
        assert corrections.num_rows == 0 and summary.changed_share == 0
        assert apply_corrections(some, corrections).select(JUDGEMENTS.names).equals(some)


def test_a_second_judge_that_loses_rows() -> None:
    labels, engaged = shop(3)
    with pytest.raises(RaylevanceError, match="the second judge gave 1 grades for"):
        audit(labels, engaged, lambda disputed: ones(disputed.slice(0, 1)), EVERY)
