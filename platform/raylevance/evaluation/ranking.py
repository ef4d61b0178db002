"""Ranking metrics of a run against judgements, a value a query, computed by trec_eval (through ir_measures)."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import ir_measures
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ir_measures import RR, P, Qrel, R, ScoredDoc, nDCG

from raylevance.errors import RaylevanceError

Run = Mapping[str, Mapping[str, float]]
"""Scores by product id, by query id; the higher the better."""
PerQuery = dict[str, npt.NDArray[np.float64]]
"""Values [queries] of each metric, the queries in the order of their first judgement."""

GAINS = {"E": 3, "S": 2, "C": 1, "I": 0}
"""nDCG@10's gains of the ESCI labels; where labels are others, the gain is the grade."""
OFFICIAL_GAINS = {"E": 100, "S": 10, "C": 1, "I": 0}
"""ESCI's own gains 1, .1, .01, 0, times 100: trec_eval takes whole numbers, and nDCG does not depend on the scale."""
RELEVANT = 2
"""A gain from here on counts as relevant: E and S, or grade 2."""
METRICS = ("ndcg@10", "ndcg@10_official", "recall@100", "precision@10", "mrr@10")


def evaluate_run(run: Run, judgements: pa.Table) -> PerQuery:
    """Each of `METRICS` for every judged query; a query that the run lacks, or with nothing relevant, scores 0.

    `judgements` has query_id, product_id, label and grade. What is not judged is irrelevant. Equal scores are ranked by
    the order in which the run lists them.
    """
    gains = list(_qrels(judgements, GAINS))
    official = list(_qrels(judgements, OFFICIAL_GAINS))
    queries = {query: place for place, query in enumerate(dict.fromkeys(judgements["query_id"].to_pylist()))}
    documents = list(_documents(run, queries))
    relevant = {
        "recall@100": R(rel=RELEVANT) @ 100,
        "precision@10": P(rel=RELEVANT) @ 10,
        "mrr@10": RR(rel=RELEVANT) @ 10,
    }
    values = {name: np.zeros(len(queries)) for name in METRICS}
    for measures, qrels in (
        ({"ndcg@10": nDCG @ 10, **relevant}, gains),
        ({"ndcg@10_official": nDCG @ 10}, official),
    ):
        names = {measure: name for name, measure in measures.items()}
        for metric in ir_measures.iter_calc(list(names), qrels, documents):
            values[names[metric.measure]][queries[metric.query_id]] = metric.value
    return values


def write_run(file: Path, run: Run, tag: str) -> None:
    """Write a TREC run file: query, Q0, product, rank, score, tag.

    Raises `RaylevanceError` for an id with white space, which the format has no way to write.
    """
    for name in chain(run, *run.values()):
        if len(name.split()) != 1:
            raise RaylevanceError(f"id {name!r} holds white space: a TREC run can't name it; import it without")
    with file.open("w", encoding="utf-8") as lines:
        for query, scores in run.items():
            ranked = sorted(scores.items(), key=lambda pair: -pair[1])
            lines.writelines(
                f"{query} Q0 {product} {rank} {score:.6f} {tag}\n" for rank, (product, score) in enumerate(ranked, 1)
            )


def read_run(file: Path) -> dict[str, dict[str, float]]:
    """The run of a TREC run file. Raises `RaylevanceError` naming the line that is none."""
    run: dict[str, dict[str, float]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            query, _, product, _, score, _ = line.split()
            run.setdefault(query, {})[product] = float(score)
        except ValueError:
            raise RaylevanceError(f"{file}: line {number} is not a TREC run line: {line[:80]!r}") from None
    return run


def write_qrels(file: Path, judgements: pa.Table) -> None:
    """Write TREC qrels (query, 0, product, gain) with the gains of nDCG@10."""
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(f"{qrel.query_id} 0 {qrel.doc_id} {qrel.relevance}\n" for qrel in _qrels(judgements, GAINS))


def _qrels(judgements: pa.Table, gains: Mapping[str, int]) -> Iterator[Qrel]:
    for query, product, label, grade in zip(
        *(judgements[name].to_pylist() for name in ("query_id", "product_id", "label", "grade")), strict=True
    ):
        yield Qrel(query, product, gains.get(label, grade))


def _documents(run: Run, judged: Mapping[str, int]) -> Iterator[ScoredDoc]:
    """The run's products with their ranks as scores: trec_eval breaks ties by id, we by the run's order."""
    for query, scores in run.items():
        if query in judged:
            ranked = sorted(scores, key=lambda product: -scores[product])
            for rank, product in enumerate(ranked):
                yield ScoredDoc(query, product, -float(rank))
