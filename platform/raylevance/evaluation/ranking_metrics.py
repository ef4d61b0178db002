"""Ranking metrics of a run against judgements for each query, computed by trec_eval through ir_measures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import ir_measures
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ir_measures import RR, Measure, P, Qrel, R, ScoredDoc, nDCG

from raylevance.errors import RaylevanceError

RankedRun = Mapping[str, Mapping[str, float]]
"""The score of each product id for each query id. A higher score is a better rank."""

PerQuery = dict[str, npt.NDArray[np.float64]]
"""The values [queries] of each metric. The queries are in the order of their first judgement."""

GAINS = {"E": 3, "S": 2, "C": 1, "I": 0}
"""The gains of the ESCI labels in nDCG@10. The gain of any other label is its grade."""

OFFICIAL_GAINS = {"E": 100, "S": 10, "C": 1, "I": 0}
"""ESCI's own gains 1, 0.1, 0.01 and 0, times 100 because trec_eval takes whole numbers. The scale does not matter."""

LABEL_OF_GRADE = {2: "E", 1: "C", 0: "I"}
"""The ESCI label whose gain a grade has that an audit gave: of two labels for grade 1, the lower."""

RELEVANT = 2
"""The lowest gain that counts as relevant: that of E and S, or grade 2."""

CUTOFFS = (10, 50, 100)
"""The ranks at which precision, recall and nDCG are measured: those of Mine and Refine (arXiv 2602.17654)."""

GRADE_METRICS = tuple(f"{name}@{k}_grades" for name in ("ndcg", "recall", "precision") for k in CUTOFFS)
"""The metrics of Mine and Refine: nDCG with the gains 1, 0.5 and 0 of the grades 2, 1 and 0, recall and precision.

The paper does not state whether grade 1 is relevant in recall and precision; that it is, is our reading.
"""

METRICS = (
    "ndcg@10",
    "ndcg@10_official",
    "recall@100",
    "precision@10",
    "mrr@10",
    "ndcg@50",
    "ndcg@100",
    "recall@10",
    "recall@50",
    "precision@50",
    "precision@100",
    *GRADE_METRICS,
)
"""The names of all metrics.

- Without a suffix: the gains are `GAINS`, and a product of gain `RELEVANT` or more is relevant.
- `_official`: the gains are `OFFICIAL_GAINS`.
- `_grades`: the metrics of `GRADE_METRICS`.
"""


def evaluate_run(run: RankedRun, judgements: pa.Table, metrics: Sequence[str] = METRICS) -> PerQuery:
    """Return `metrics`, some of `METRICS`, for every judged query.

    `judgements` has the columns query_id, product_id, label and grade. A product without a judgement counts as
    irrelevant. Products with equal scores are ranked in the order of the run. A query that is not in the run, or has no
    relevant product, scores 0.
    """
    query_index = {query: index for index, query in enumerate(dict.fromkeys(judgements["query_id"].to_pylist()))}
    documents = list(_scored_documents(run, query_index))
    values = {name: np.zeros(len(query_index)) for name in metrics}
    for suffix, (gains, lowest) in _GAINS.items():
        names = {_measure(name, lowest): name for name in metrics if name.partition("_")[2] == suffix}
        if names:
            for metric in ir_measures.iter_calc(list(names), list(_qrels(judgements, gains)), documents):
                values[names[metric.measure]][query_index[metric.query_id]] = metric.value
    return values


_GAINS: Mapping[str, tuple[Mapping[str, int], int]] = {
    "": (GAINS, RELEVANT),
    "official": (OFFICIAL_GAINS, RELEVANT),
    "grades": ({}, 1),
}
"""The gains of the labels and the lowest relevant gain, by the suffix of a metric. Without a gain, it is the grade."""


def _measure(name: str, lowest: int) -> Measure:
    """Return the measure of trec_eval that one of `METRICS` names; `lowest` is the lowest gain that is relevant."""
    kind, _, cutoff = name.partition("_")[0].partition("@")
    measures = {"ndcg": nDCG, "recall": R(rel=lowest), "precision": P(rel=lowest), "mrr": RR(rel=lowest)}
    measure: Measure = measures[kind] @ int(cutoff)
    return measure


def write_run(file: Path, run: RankedRun, tag: str) -> None:
    """Write a TREC run file, with query, Q0, product, rank, score and tag in each line.

    Raises `RaylevanceError` if an id is empty or contains white space, which the format can't represent.
    """
    _check_ids(chain(run, *run.values()), file)
    with file.open("w", encoding="utf-8") as lines:
        for query, scores in run.items():
            ranked = sorted(scores.items(), key=lambda pair: -pair[1])
            lines.writelines(
                f"{query} Q0 {product} {rank} {score:.6f} {tag}\n" for rank, (product, score) in enumerate(ranked, 1)
            )


def read_run(file: Path) -> dict[str, dict[str, float]]:
    """Read a TREC run file. Raises `RaylevanceError` naming the first line that is not in this format."""
    run: dict[str, dict[str, float]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            query, _, product, _, score, _ = line.split()
            run.setdefault(query, {})[product] = float(score)
        except ValueError:
            raise RaylevanceError(f"{file}: line {number} is not a TREC run line: {line[:80]!r}") from None
    return run


def write_qrels(file: Path, judgements: pa.Table) -> None:
    """Write a TREC qrels file, with query, 0, product and gain in each line. The gains are those of nDCG@10.

    Raises `RaylevanceError` as `write_run` does.
    """
    _check_ids(chain(*(judgements[name].to_pylist() for name in ("query_id", "product_id"))), file)
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(f"{qrel.query_id} 0 {qrel.doc_id} {qrel.relevance}\n" for qrel in _qrels(judgements, GAINS))


def _check_ids(ids: Iterable[str], file: Path) -> None:
    for name in ids:
        if len(name.split()) != 1 or name != name.strip():
            fault = "contains white space" if name else "is empty"
            raise RaylevanceError(f"{file}: id {name!r} {fault}, which a TREC file can't hold; change it in the data")


def _qrels(judgements: pa.Table, gains: Mapping[str, int]) -> Iterator[Qrel]:
    corrected = judgements.column("previous_grade") if "previous_grade" in judgements.column_names else None
    is_corrected = [False] * len(judgements) if corrected is None else corrected.is_valid().to_pylist()
    columns = (judgements[name].to_pylist() for name in ("query_id", "product_id", "label", "grade"))
    for query, product, label, grade, has_new_grade in zip(*columns, is_corrected, strict=True):
        if has_new_grade and label in gains:  # the label is that of the grade before an audit
            label = LABEL_OF_GRADE[grade]
        yield Qrel(query, product, gains.get(label, grade))


def _scored_documents(run: RankedRun, judged_queries: Mapping[str, int]) -> Iterator[ScoredDoc]:
    """Yield the products of the run with their ranks as scores, since trec_eval would break ties by id."""
    for query, scores in run.items():
        if query in judged_queries:
            ranked = sorted(scores, key=lambda product: -scores[product])
            for rank, product in enumerate(ranked):
                yield ScoredDoc(query, product, -float(rank))
