"""Query-item pairs labelled relevant or not, from judgements and from behaviour."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText, query_key
from raylevance.evaluation.pair_metrics import evaluate_pairs
from raylevance.models.relevance import RelevanceModel
from raylevance.progress import status
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

    A negative with the texts of an edge of the graph is left out: a product may be listed twice, and a query have two
    ids, of which the log joins only one. `pairs` holds rows of `raylevance.graph.sampling.PAIR_SCHEMA`. `weight` is the
    weight of a pair in the loss; 0 for none.
    """

    nodes: GraphTexts
    pairs: pa.Table
    weight: float

    def rows(self) -> pa.Table:
        """Return rows of `raylevance.training.tasks.relevance.task.COLUMNS`, one for each pair of texts."""
        pairs = self.pairs.filter(pc.equal(self.pairs["kind"], "query-item"))
        negatives = pairs["negatives"].combine_chunks()
        owners = np.repeat(pairs["anchor"].to_numpy(), negatives.value_lengths().to_numpy())
        queries = np.concatenate([pairs["anchor"].to_numpy(), owners])
        items = np.concatenate([pairs["positive"].to_numpy(), negatives.flatten().to_numpy()])
        labels = np.arange(len(items)) < pairs.num_rows
        edges = self.nodes.graph.edges
        clicked = self.nodes.pair_ids(edges.edge_rows(), edges.indices)
        kept = labels | ~np.isin(self.nodes.pair_ids(queries, items), clicked)
        queries, items, labels = queries[kept], items[kept], labels[kept]
        texts = self.nodes.queries.take(pa.array(queries)), self.nodes.items.take(pa.array(items))
        rows = labelled_rows(*texts, labels, np.full(len(items), self.weight), "behaviour")
        rows = one_row_per_pair(rows)
        left_out = len(kept) - rows.num_rows
        if left_out:
            status(f"behaviour pairs: {left_out} of {len(kept)} are left out, as their texts were clicked or repeat")
        return rows


def relevance_rows(human: LabelledPairs, behaviour: BehaviourPairs) -> pa.Table:
    """Join judged pairs, of weight 1, and pairs from behaviour, where these have a weight.

    A pair from behaviour is left out if people judged a pair of the same texts, and gave it the other label.
    """
    judged = human.rows()
    if not behaviour.weight:
        return judged
    clicked = behaviour.rows()
    opposite = pc.subtract(pa.scalar(1, pa.int8()), judged["label"])
    contradicts = pc.is_in(_with_label(clicked, clicked["label"]), _with_label(judged, opposite))
    if pc.any(contradicts).as_py():
        left_out = f"{pc.sum(contradicts).as_py()} of {clicked.num_rows}"
        status(f"behaviour pairs: {left_out} are left out, as people judged them otherwise")
    return pa.concat_tables([judged, clicked.filter(pc.invert(contradicts))])


def one_row_per_pair(rows: pa.Table) -> pa.Table:
    """Keep one row of each pair of query and product text: a relevant one first, then one of the highest weight.

    `rows` are those of `labelled_rows`; they stay in their order. A product that is listed twice is thus never both
    relevant and not relevant to a query.
    """
    label, weight = (rows[name].to_numpy() for name in ("label", "weight"))
    pair = text_pair_ids(rows).dictionary_encode().indices.to_numpy()
    order = np.lexsort((np.arange(len(pair)), -weight, -label, pair))
    first = order[np.flatnonzero(np.diff(pair[order], prepend=-1))]
    return rows.take(pa.array(np.sort(first)))


def text_pair_ids(rows: pa.Table) -> pa.Array:
    """Return an id for the texts of each row's query and product, the same for texts that `query_key` calls equal."""
    keys = (query_key(rows[name]) for name in ("query", "product_text"))
    return pc.binary_join_element_wise(*keys, " ").combine_chunks()


def _with_label(rows: pa.Table, labels: pa.ChunkedArray) -> pa.Array:
    return pc.binary_join_element_wise(text_pair_ids(rows), labels.cast(pa.string()).combine_chunks(), " ")


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
