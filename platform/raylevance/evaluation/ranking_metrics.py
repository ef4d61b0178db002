"""Ranking metrics of a run against judgements for each query, computed by trec_eval through ir_measures."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import ir_measures
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ir_measures import RR, P, Qrel, R, ScoredDoc, nDCG

from raylevance.errors import RaylevanceError

RankedRun = Mapping[str, Mapping[str, float]]
"""The score of each product id for each query id. A higher score is a better rank."""

PerQuery = dict[str, npt.NDArray[np.float64]]
"""The values [queries] of each metric. The queries are in the order of their first judgement."""

GAINS = {"E": 3, "S": 2, "C": 1, "I": 0}
"""The gains of the ESCI labels in nDCG@10. The gain of any other label is its grade."""

OFFICIAL_GAINS = {"E": 100, "S": 10, "C": 1, "I": 0}
"""ESCI's own gains 1, 0.1, 0.01 and 0, times 100 because trec_eval takes whole numbers. The scale does not matter."""

RELEVANT = 2
"""The lowest gain that counts as relevant: that of E and S, or grade 2."""

METRICS = ("ndcg@10", "ndcg@10_official", "recall@100", "precision@10", "mrr@10")


def evaluate_run(run: RankedRun, judgements: pa.Table) -> PerQuery:
    """Return each of `METRICS` for every judged query.

    `judgements` has the columns query_id, product_id, label and grade. A product without a judgement counts as
    irrelevant. Products with equal scores are ranked in the order of the run. A query that is not in the run, or has no
    relevant product, scores 0.
    """
    gains = list(_qrels(judgements, GAINS))
    official = list(_qrels(judgements, OFFICIAL_GAINS))
    query_index = {query: index for index, query in enumerate(dict.fromkeys(judgements["query_id"].to_pylist()))}
    documents = list(_scored_documents(run, query_index))
    relevant = {
        "recall@100": R(rel=RELEVANT) @ 100,
        "precision@10": P(rel=RELEVANT) @ 10,
        "mrr@10": RR(rel=RELEVANT) @ 10,
    }
    values = {name: np.zeros(len(query_index)) for name in METRICS}
    for measures, qrels in (
        ({"ndcg@10": nDCG @ 10, **relevant}, gains),
        ({"ndcg@10_official": nDCG @ 10}, official),
    ):
        names = {measure: name for name, measure in measures.items()}
        for metric in ir_measures.iter_calc(list(names), qrels, documents):
            values[names[metric.measure]][query_index[metric.query_id]] = metric.value
    return values


def write_run(file: Path, run: RankedRun, tag: str) -> None:
    """Write a TREC run file, with query, Q0, product, rank, score and tag in each line.

    Raises `RaylevanceError` if an id contains white space, which the format can't represent.
    """
    for name in chain(run, *run.values()):
        if len(name.split()) != 1:
            raise RaylevanceError(
                f"{file}: id {name!r} contains white space, which a TREC run can't hold; remove it from the data"
            )
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
    """Write a TREC qrels file, with query, 0, product and gain in each line. The gains are those of nDCG@10."""
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(f"{qrel.query_id} 0 {qrel.doc_id} {qrel.relevance}\n" for qrel in _qrels(judgements, GAINS))


def _qrels(judgements: pa.Table, gains: Mapping[str, int]) -> Iterator[Qrel]:
    for query, product, label, grade in zip(
        *(judgements[name].to_pylist() for name in ("query_id", "product_id", "label", "grade")), strict=True
    ):
        yield Qrel(query, product, gains.get(label, grade))


def _scored_documents(run: RankedRun, judged_queries: Mapping[str, int]) -> Iterator[ScoredDoc]:
    """Yield the products of the run with their ranks as scores, since trec_eval would break ties by id."""
    for query, scores in run.items():
        if query in judged_queries:
            ranked = sorted(scores, key=lambda product: -scores[product])
            for rank, product in enumerate(ranked):
                yield ScoredDoc(query, product, -float(rank))
