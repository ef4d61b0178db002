"""The engagement audit: labels that shoppers' behaviour contradicts are judged again, by a stronger judge.

Mine and Refine (arXiv 2602.17654, section on labelling): a sample of 30 % of the labels; of these, high engagement with
grade 0 and low engagement with grade 2. It does not state its thresholds; deciles of engagement are our reading.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeFloat, PositiveInt

from raylevance.config import Settings
from raylevance.data.hashing import hash_unit
from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError

COUNTS = ("exposures", "clicks", "carts", "purchases")
ENGAGEMENT = pa.schema(
    [("query_id", pa.string()), ("product_id", pa.string()), *((name, pa.int64()) for name in COUNTS)]
)
REJUDGED = pa.schema([("grade", pa.int8()), ("confidence", pa.float32()), ("source", pa.string())])
CORRECTIONS = pa.schema(
    [
        ("query_id", pa.string()),
        ("product_id", pa.string()),
        ("kind", pa.string()),
        ("previous_grade", pa.int8()),
        ("previous_source", pa.string()),
        *REJUDGED,
    ]
)
"""A label that changes. `kind`: one of `KINDS`; `grade`, `confidence`, `source`: the second judge's."""

HIGH, LOW = "high engagement, grade 0", "low engagement, grade 2"
KINDS = (HIGH, LOW)

Rejudge = Callable[[pa.Table], pa.Table]
"""From labels (query_id, product_id) to rows of `REJUDGED` in the same order, null `grade` where it abstains."""

Floats = npt.NDArray[np.float64]


class AuditSettings(Settings):
    """`sampled`: share of the labels that are looked at. `tail`: share of the pairs that counts as high, or as low.

    `min_exposures`: fewer say nothing of a pair. `prior_exposures`: exposures at the query's own rate that each pair is
    given on top of its own (our choice).
    """

    sampled: float = Field(0.3, ge=0, le=1)
    tail: float = Field(0.1, gt=0, le=0.5)
    min_exposures: PositiveInt = 20
    prior_exposures: NonNegativeFloat = 20
    seed: int = 0


class Summary(NamedTuple):
    """Labels by how far they came: `sampled`, `disagreements` among these, `changed` among these; the last by kind."""

    labels: int
    sampled: int
    disagreements: dict[str, int]
    changed: dict[str, int]

    @property
    def changed_share(self) -> float:
        """Of the disagreements; 0 without any. (23.4 % in the paper.)"""
        return sum(self.changed.values()) / max(sum(self.disagreements.values()), 1)


class Audit(NamedTuple):
    corrections: pa.Table
    summary: Summary


def engagement(events: pa.Table) -> pa.Table:
    """Rows of `ENGAGEMENT`: what followed each query and product in `events`; without a query an event is left out."""
    searched = events.filter(events["query_id"].is_valid())
    counts = [pc.equal(searched["action"], action).cast(pa.int64()) for action in ACTIONS]
    pairs = pa.table([searched["query_id"], searched["product_id"], *counts], names=ENGAGEMENT.names)
    sums = pairs.group_by(["query_id", "product_id"]).aggregate([(name, "sum") for name in COUNTS])
    return pa.table([sums["query_id"], sums["product_id"], *(sums[f"{name}_sum"] for name in COUNTS)], ENGAGEMENT)


def audit(judgements: pa.Table, engaged: pa.Table, rejudge: Rejudge, settings: AuditSettings | None = None) -> Audit:
    """Judge again a sample of the `judgements` that `engaged` (rows of `ENGAGEMENT`, a pair once) disagrees with.

    A label is in the sample by a hash of `seed` and its pair: adding rows moves no other. One whose pair has no
    engagement, or too little, is never touched. `rejudge` is called once, or not at all where nothing disagrees.
    """
    settings = settings or AuditSettings()
    sampled = judgements.filter(pa.array(hash_unit(pair_id(judgements), settings.seed) < settings.sampled))
    kinds = _kinds(sampled, engaged, settings)
    disputed = sampled.filter(kinds.is_valid())
    kinds = kinds.drop_null()
    corrections = _corrections(disputed, kinds, rejudge) if disputed.num_rows else CORRECTIONS.empty_table()
    summary = Summary(judgements.num_rows, sampled.num_rows, _by_kind(kinds), _by_kind(corrections["kind"]))
    return Audit(corrections, summary)


def apply(judgements: pa.Table, corrections: pa.Table) -> pa.Table:
    """`judgements` with grade, confidence and source of the `corrections`, rows in their order.

    Two more columns, previous_grade and previous_source, keep what was replaced; null where nothing was. `label`, the
    data set's own, stays.
    """
    row = pc.index_in(
        _label_id(judgements, "grade", "source"), _label_id(corrections, "previous_grade", "previous_source")
    )
    for name in REJUDGED.names:
        column = judgements.schema.field(name)
        new = pc.take(corrections[name], row).cast(column.type)
        values = pc.if_else(row.is_valid(), new, judgements[name])
        judgements = judgements.set_column(judgements.column_names.index(name), column, values)
    for name in ("previous_grade", "previous_source"):
        values = pc.take(corrections[name], row)
        if name in judgements.column_names:
            values = pc.coalesce(values, judgements[name])
            judgements = judgements.drop_columns([name])
        judgements = judgements.append_column(CORRECTIONS.field(name), values)
    return judgements


def query_normalised_rates(engaged: pa.Table, prior_exposures: float) -> Floats:
    """How often a pair is engaged with for each time that an average pair of its query is, float64 [n].

    Engagements are clicks, carts and purchases together, so a purchase counts for the click and the cart before it too
    (our choice); a query without any gives 1. The rate is smoothed by `prior_exposures` at the query's own rate.
    """
    exposures = engaged["exposures"].to_numpy().astype(np.float64)
    actions = sum((engaged[name].to_numpy().astype(np.float64) for name in COUNTS[1:]), np.zeros(len(exposures)))
    _, query = np.unique(engaged["query_id"].to_numpy(zero_copy_only=False).astype(object), return_inverse=True)
    expected = np.bincount(query, actions) / np.maximum(np.bincount(query, exposures), 1)
    own = expected[query]
    smoothed = (actions + prior_exposures * own) / np.maximum(exposures + prior_exposures, 1)
    rates: Floats = np.divide(smoothed, own, out=np.ones_like(own), where=own > 0)
    return rates


def pair_id(rows: pa.Table) -> pa.ChunkedArray:
    """A query and a product as one string, string [n]."""
    return pc.binary_join_element_wise(rows["query_id"], rows["product_id"], "\n")


def _kinds(labels: pa.Table, engaged: pa.Table, settings: AuditSettings) -> pa.Array:
    """The kind of disagreement of each label, string [n]; null where there is none.

    A pair in the highest share is also above its query's mean, one in the lowest below it: where shoppers treat many
    pairs alike, these are neither.
    """
    rates = query_normalised_rates(engaged, settings.prior_exposures)
    known = engaged["exposures"].to_numpy() >= settings.min_exposures
    if not known.any():
        return pa.nulls(labels.num_rows, pa.string())
    lowest = np.quantile(rates[known], settings.tail, method="lower")
    highest = np.quantile(rates[known], 1 - settings.tail, method="higher")
    high = known & (rates >= highest) & (rates > 1)
    low = known & (rates <= lowest) & (rates < 1)
    row = pc.index_in(pair_id(labels), pair_id(engaged))
    is_high, is_low = (pc.fill_null(pc.take(pa.array(side), row), False) for side in (high, low))
    disputed_high = pc.and_(is_high, pc.equal(labels["grade"], 0))
    disputed_low = pc.and_(is_low, pc.equal(labels["grade"], 2))
    kinds = pc.if_else(disputed_high, HIGH, pc.if_else(disputed_low, LOW, pa.scalar(None, pa.string())))
    return kinds.combine_chunks() if isinstance(kinds, pa.ChunkedArray) else kinds


def _corrections(disputed: pa.Table, kinds: pa.Array, rejudge: Rejudge) -> pa.Table:
    """Rows of `CORRECTIONS`: the second judge's grade where it gives another one."""
    again = rejudge(disputed.select(["query_id", "product_id"]))
    if again.num_rows != disputed.num_rows:
        raise RaylevanceError(f"the second judge gave {again.num_rows} grades for {disputed.num_rows} labels")
    columns = [disputed["query_id"], disputed["product_id"], kinds, disputed["grade"], disputed["source"]]
    columns += [again[name].cast(REJUDGED.field(name).type) for name in REJUDGED.names]
    rows = pa.table(columns, CORRECTIONS)
    return rows.filter(pc.fill_null(pc.not_equal(rows["grade"], rows["previous_grade"]), False))


def _label_id(rows: pa.Table, grade: str, source: str) -> pa.Array:
    """A label as one string, string [n]: a pair may have several, by different judges."""
    label = pc.binary_join_element_wise(pair_id(rows), rows[grade].cast(pa.string()), rows[source], "\n")
    return label.combine_chunks() if isinstance(label, pa.ChunkedArray) else label


def _by_kind(kinds: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    return {kind: int(pc.sum(pc.equal(kinds, kind)).as_py() or 0) for kind in KINDS}
