"""Query-item pairs labelled relevant or not, from judgements and from behaviour."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText
from raylevance.evaluation.pair_metrics import evaluate_pairs
from raylevance.models.relevance import RelevanceModel
from workloads.steps.graph_texts import GraphTexts

RELEVANT, IRRELEVANT = 2, 0


@dataclass(frozen=True)
class LabelledPairs:
    """n judged pairs of grade 2 (label 1) or grade 0 (label 0). Pairs of grade 1 are left out (our choice)."""

    product_ids: list[str]
    queries: list[str]
    texts: list[str]
    labels: npt.NDArray[np.int8]

    @classmethod
    def of(cls, judged: JudgedTables, text: ProductText) -> Self:
        """Take the pairs of `judged` that have grade 2 or 0, with the item texts that `text` composes."""
        graded = GradedPairs.from_tables(judged, text)
        kept = [row for row, grade in enumerate(graded.grades) if grade in (RELEVANT, IRRELEVANT)]
        ids, queries, texts = (
            [column[row] for row in kept] for column in (graded.product_ids, graded.queries, graded.texts)
        )
        return cls(ids, queries, texts, np.array([graded.grades[row] == RELEVANT for row in kept], np.int8))

    def rows(self) -> pa.Table:
        """Return rows of `raylevance.training.tasks.relevance.task.COLUMNS`, each of weight 1."""
        ones = np.ones(len(self.labels))
        return labelled_rows(pa.array(self.queries), pa.array(self.texts), self.labels, ones, "human")

    def auc_of(self, model: Any) -> dict[str, float]:
        """Return the AUC of a relevance model on these pairs, by which training keeps the best step."""
        checked: RelevanceModel = model
        return {"auc": evaluate_pairs(checked.score(self.queries, self.texts), self.labels)["auc"]}


@dataclass(frozen=True)
class BehaviourPairs:
    """High-confidence pairs of the graph: the positives of its query-item pairs, and their negatives as not relevant.

    `pairs` holds rows of `raylevance.graph.sampling.PAIR_SCHEMA`. `weight` is the weight of a pair in the loss; 0 for
    none.
    """

    nodes: GraphTexts
    pairs: pa.Table
    weight: float

    def rows(self) -> pa.Table:
        """Return rows of `raylevance.training.tasks.relevance.task.COLUMNS`."""
        pairs = self.pairs.filter(pc.equal(self.pairs["kind"], "query-item"))
        negatives = pairs["negatives"].combine_chunks()
        owners = np.repeat(pairs["anchor"].to_numpy(), negatives.value_lengths().to_numpy())
        queries = np.concatenate([pairs["anchor"].to_numpy(), owners])
        items = np.concatenate([pairs["positive"].to_numpy(), negatives.flatten().to_numpy()])
        labels = np.arange(len(items)) < pairs.num_rows
        texts = self.nodes.queries.take(pa.array(queries)), self.nodes.items.take(pa.array(items))
        return labelled_rows(*texts, labels, np.full(len(items), self.weight), "behaviour")


def relevance_rows(human: LabelledPairs, behaviour: BehaviourPairs) -> pa.Table:
    """Join judged pairs, of weight 1, and pairs from behaviour, where these have a weight."""
    return pa.concat_tables([human.rows(), behaviour.rows()]) if behaviour.weight else human.rows()


def labelled_rows(
    queries: pa.Array, texts: pa.Array, labels: npt.NDArray[Any], weights: npt.NDArray[Any], source: str
) -> pa.Table:
    """Return rows of `raylevance.training.tasks.relevance.task.COLUMNS` that come from one `source`."""
    return pa.table(
        {
            "query": queries.cast(pa.string()),
            "product_text": texts.cast(pa.string()),
            "label": pa.array(labels.astype(np.int8)),
            "weight": pa.array(weights.astype(np.float32)),
            "source": pa.repeat(source, len(labels)),
        }
    )
