"""nDCG@10 of an encoder on a small pool of judged products: cheap enough to be measured during training."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.groups import Groups
from raylevance.data.judged import Judged
from raylevance.data.text import ProductText
from raylevance.evaluation.ranking import evaluate_run
from raylevance.models.encoder import Encoder


@dataclass(frozen=True)
class RankingEvaluation:
    """Ranks the judged products for each query; `groups` restricts a query to products of its locale.

    An instance is the `evaluate` argument of `raylevance.training.trainer.train`.
    """

    queries: pa.Table
    product_ids: list[str]
    texts: list[str]
    judgements: pa.Table
    groups: Groups | None = None

    @classmethod
    def of(cls, judged: Judged, text: ProductText) -> Self:
        """Take every product that is judged for some query of `judged`, with the item texts that `text` composes."""
        judged_ids = judged.judgements["product_id"].combine_chunks()
        products = judged.products.filter(pc.is_in(judged.products["product_id"], judged_ids))
        ids = products["product_id"].to_pylist()
        groups = replace(judged, products=products).groups()
        return cls(judged.queries, ids, text.compose(products), judged.judgements, groups)

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        """Return the mean `ndcg@10` of the encoder over the queries."""
        scores = encoder.encode_queries(self.queries["query"].to_pylist()) @ encoder.encode_items(self.texts).T
        if self.groups is not None:
            scores = np.where([self.groups.allowed(group) for group in self.groups.queries], scores, -np.inf)
        run = {
            query: {self.product_ids[place]: float(row[place]) for place in np.argsort(-row, kind="stable")[:10]}
            for query, row in zip(self.queries["query_id"].to_pylist(), scores, strict=True)
        }
        return {"ndcg@10": float(np.mean(evaluate_run(run, self.judgements)["ndcg@10"]))}
