"""The engagement audit: labels that contradict shoppers' behaviour are judged again by a stronger judge.

Source: Mine and Refine (arXiv 2602.17654), section on labelling. From a sample of 30 % of the labels, those of grade 0
with high engagement and those of grade 2 with low engagement are judged again. The paper does not state what counts as
high and low; the highest and the lowest decile are our choice.
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
"""The number of events of each kind that followed a query and concerned a product."""

REJUDGED = pa.schema([("grade", pa.int8()), ("confidence", pa.float32()), ("source", pa.string())])
"""The label of the second judge; a null grade where it abstains."""

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
"""Labels that change: `kind` is one of `KINDS`; `grade`, `confidence` and `source` are those of the second judge."""

HIGH_ENGAGEMENT, LOW_ENGAGEMENT = "high engagement, grade 0", "low engagement, grade 2"
KINDS = (HIGH_ENGAGEMENT, LOW_ENGAGEMENT)

SecondJudge = Callable[[pa.Table], pa.Table]
"""Maps pairs (query_id, product_id) to rows of `REJUDGED` in the same order."""

Floats = npt.NDArray[np.float64]


class AuditSettings(Settings):
    """The labels that are audited, and what counts as high and low engagement."""

    sampled: float = Field(0.3, ge=0, le=1)
    """The share of the labels that is audited."""
    tail: float = Field(0.1, gt=0, le=0.5)
    """The share of the pairs that counts as high engagement, and equally as low engagement."""
    min_exposures: PositiveInt = 20
    """A pair with fewer exposures than this is never judged again."""
    prior_exposures: NonNegativeFloat = 20
    """The number of exposures, with the mean engagement of the query, that is added to those of each pair (our
    choice)."""
    seed: int = 0
    """The seed of the sample."""


class AuditSummary(NamedTuple):
    """The number of labels at each stage of the audit."""

    labels: int
    """All labels."""
    sampled: int
    """The labels that were audited."""
    disagreements: dict[str, int]
    """The audited labels that behaviour contradicts, by kind."""
    changed: dict[str, int]
    """Those of the disagreements where the second judge gave another grade, by kind."""
    not_judged: dict[str, int]
    """Those of the disagreements to which the second judge gave no grade, by kind; their labels stay."""

    @property
    def changed_share(self) -> float:
        """The share of the disagreements that were judged again that changed, 0 without any; 23.4 % in the paper."""
        judged = sum(self.disagreements.values()) - sum(self.not_judged.values())
        return sum(self.changed.values()) / max(judged, 1)


class AuditResult(NamedTuple):
    """The outcome of an audit."""

    corrections: pa.Table
    """Rows of `CORRECTIONS`."""
    summary: AuditSummary
    """The number of labels at each stage."""


def count_engagement(events: pa.Table) -> pa.Table:
    """Return rows of `ENGAGEMENT`, counted from rows of `EVENTS`; events without a query are left out."""
    searches = events.filter(events["query_id"].is_valid())
    counts = [pc.equal(searches["action"], action).cast(pa.int64()) for action in ACTIONS]
    pairs = pa.table([searches["query_id"], searches["product_id"], *counts], names=ENGAGEMENT.names)
    sums = pairs.group_by(["query_id", "product_id"]).aggregate([(name, "sum") for name in COUNTS])
    return pa.table([sums["query_id"], sums["product_id"], *(sums[f"{name}_sum"] for name in COUNTS)], ENGAGEMENT)


def audit(
    judgements: pa.Table, engagement: pa.Table, second_judge: SecondJudge, settings: AuditSettings | None = None
) -> AuditResult:
    """Judge again those of a sample of labels that behaviour contradicts.

    `engagement` holds rows of `ENGAGEMENT`, each pair once. A label is in the sample by a hash of the seed and its
    pair, so that added rows do not change the choice. A label whose pair has no engagement, or too few exposures, is
    never judged again. `second_judge` is called once, or not at all if nothing disagrees.

    Raises `RaylevanceError` if `second_judge` returns another number of rows than it was given.
    """
    settings = settings or AuditSettings()
    sampled = judgements.filter(pa.array(hash_unit(pair_id(judgements), settings.seed) < settings.sampled))
    kinds = _disagreement_kinds(sampled, engagement, settings)
    disputed = sampled.filter(kinds.is_valid())
    kinds = kinds.drop_null()
    judged = _judge_again(disputed, kinds, second_judge) if disputed.num_rows else CORRECTIONS.empty_table()
    corrections = judged.filter(pc.fill_null(pc.not_equal(judged["grade"], judged["previous_grade"]), False))
    summary = AuditSummary(
        labels=judgements.num_rows,
        sampled=sampled.num_rows,
        disagreements=_count_kinds(kinds),
        changed=_count_kinds(corrections["kind"]),
        not_judged=_count_kinds(judged.filter(judged["grade"].is_null())["kind"]),
    )
    return AuditResult(corrections, summary)


def apply_corrections(judgements: pa.Table, corrections: pa.Table) -> pa.Table:
    """Return `judgements` in their order, with the grade, confidence and source of the `corrections`.

    The columns previous_grade and previous_source are added. They keep the values that were replaced, and are null
    where nothing was. The column `label` of the data set does not change.
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


def query_normalised_rates(engagement: pa.Table, prior_exposures: float) -> Floats:
    """Return each pair's engagement per exposure, divided by that of all pairs of its query, float64 [n].

    Engagement is the sum of clicks, carts and purchases, so a purchase counts together with the click and the cart
    before it (our choice). `prior_exposures` exposures at the query's mean rate are added to those of each pair. The
    result is 1 for all pairs of a query without engagement.
    """
    exposures = engagement["exposures"].to_numpy().astype(np.float64)
    actions = sum((engagement[name].to_numpy().astype(np.float64) for name in COUNTS[1:]), np.zeros(len(exposures)))
    _, query = np.unique(engagement["query_id"].to_numpy(zero_copy_only=False).astype(object), return_inverse=True)
    query_rates = np.bincount(query, actions) / np.maximum(np.bincount(query, exposures), 1)
    query_rate = query_rates[query]
    smoothed = (actions + prior_exposures * query_rate) / np.maximum(exposures + prior_exposures, 1)
    rates: Floats = np.divide(smoothed, query_rate, out=np.ones_like(query_rate), where=query_rate > 0)
    return rates


def pair_id(rows: pa.Table) -> pa.ChunkedArray:
    """Return the ids of query and product joined to one string, string [n]."""
    return pc.binary_join_element_wise(rows["query_id"], rows["product_id"], "\n")


def _disagreement_kinds(labels: pa.Table, engagement: pa.Table, settings: AuditSettings) -> pa.Array:
    """Return the kind of disagreement of each label, string [n], null where there is none.

    High engagement must also be above the query's mean, and low engagement below it. Otherwise, where shoppers treat
    many pairs alike, equal pairs would be in both tails.
    """
    rates = query_normalised_rates(engagement, settings.prior_exposures)
    shown_enough = engagement["exposures"].to_numpy() >= settings.min_exposures
    if not shown_enough.any():
        return pa.nulls(labels.num_rows, pa.string())
    lowest = np.quantile(rates[shown_enough], settings.tail, method="lower")
    highest = np.quantile(rates[shown_enough], 1 - settings.tail, method="higher")
    high = shown_enough & (rates >= highest) & (rates > 1)
    low = shown_enough & (rates <= lowest) & (rates < 1)
    row = pc.index_in(pair_id(labels), pair_id(engagement))
    is_high, is_low = (pc.fill_null(pc.take(pa.array(tail), row), False) for tail in (high, low))
    disputed_high = pc.and_(is_high, pc.equal(labels["grade"], 0))
    disputed_low = pc.and_(is_low, pc.equal(labels["grade"], 2))
    low_kind = pc.if_else(disputed_low, LOW_ENGAGEMENT, pa.scalar(None, pa.string()))
    kinds = pc.if_else(disputed_high, HIGH_ENGAGEMENT, low_kind)
    return kinds.combine_chunks() if isinstance(kinds, pa.ChunkedArray) else kinds


def _judge_again(disputed: pa.Table, kinds: pa.Array, second_judge: SecondJudge) -> pa.Table:
    """Return rows of `CORRECTIONS` for all disputed labels; `grade` is null where the second judge gives none."""
    second = second_judge(disputed.select(["query_id", "product_id"]))
    if second.num_rows != disputed.num_rows:
        raise RaylevanceError(f"the second judge gave {second.num_rows} grades for {disputed.num_rows} labels")
    columns = [disputed["query_id"], disputed["product_id"], kinds, disputed["grade"], disputed["source"]]
    columns += [second[name].cast(REJUDGED.field(name).type) for name in REJUDGED.names]
    return pa.table(columns, CORRECTIONS)


def _label_id(rows: pa.Table, grade: str, source: str) -> pa.Array:
    """Return the pair, grade and source of each label as one string, string [n]: a pair may have several labels."""
    label = pc.binary_join_element_wise(pair_id(rows), rows[grade].cast(pa.string()), rows[source], "\n")
    return label.combine_chunks() if isinstance(label, pa.ChunkedArray) else label


def _count_kinds(kinds: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    return {kind: int(pc.sum(pc.equal(kinds, kind)).as_py() or 0) for kind in KINDS}
