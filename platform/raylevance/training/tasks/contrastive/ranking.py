"""Measure nDCG@10 of an encoder on a small pool of judged products, which is cheap enough to do during training."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.groups import Groups
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText
from raylevance.evaluation.ranking_metrics import evaluate_run
from raylevance.models.encoder import Encoder


@dataclass(frozen=True)
class RankingEvaluation:
    """Rank the judged products for each query and measure nDCG@10: an `evaluate` argument of `trainer.train`.

    - `queries`, `judgements`: tables in the schemas of `raylevance.data.schema`.
    - `product_ids`, `texts`: ids and item texts of the products that are ranked.
    - `groups`: restricts each query to the products of its locale; None allows all products.
    """

    queries: pa.Table
    product_ids: list[str]
    texts: list[str]
    judgements: pa.Table
    groups: Groups | None = None

    @classmethod
    def of(cls, judged: JudgedTables, text: ProductText) -> Self:
        """Rank the products that are judged for any query of `judged`, with the item texts that `text` composes."""
        judged_ids = judged.judgements["product_id"].combine_chunks()
        products = judged.products.filter(pc.is_in(judged.products["product_id"], judged_ids))
        ids = products["product_id"].to_pylist()
        groups = replace(judged, products=products).locale_groups()
        return cls(judged.queries, ids, text.compose(products), judged.judgements, groups)

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        """Return the mean `ndcg@10` of the encoder over the queries."""
        scores = encoder.encode_queries(self.queries["query"].to_pylist()) @ encoder.encode_items(self.texts).T
        if self.groups is not None:
            scores = np.where([self.groups.allowed(group) for group in self.groups.queries], scores, -np.inf)
        run = {
            query: {self.product_ids[index]: float(row[index]) for index in np.argsort(-row, kind="stable")[:10]}
            for query, row in zip(self.queries["query_id"].to_pylist(), scores, strict=True)
        }
        return {"ndcg@10": float(np.mean(evaluate_run(run, self.judgements, ["ndcg@10"])["ndcg@10"]))}
