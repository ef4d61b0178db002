"""What a `scorer/NAME` artifact holds: a relevance model, the neighbour queries of products, and their hybrid.

`model` (a RelevanceModel's folder), `neighbours` (`ProductQueries`), `hybrid.json`, and `product_text.json`, the
template of the item texts.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from raylevance.artifacts import Store
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError, UsageError
from raylevance.inference.encoding import TEXT_TEMPLATE, save_template
from raylevance.inference.product_queries import ProductQueries
from raylevance.models.hybrid import Evidence, Hybrid, Values
from raylevance.models.relevance import RelevanceModel

MODEL, NEIGHBOURS, HYBRID = "model", "neighbours", "hybrid.json"


@dataclass(frozen=True)
class Scorer:
    """A scorer ready for work; `text` composes the item texts that `model` was trained on."""

    model: RelevanceModel
    products: ProductQueries
    hybrid: Hybrid
    text: ProductText

    def item_texts(self, products: pa.Table) -> list[str]:
        return self.text.compose(products)


def save_scorer(folder: Path, model: Path, products: ProductQueries, hybrid: Hybrid, text: ProductText) -> None:
    """Write a scorer to `folder`; `model`: the folder of its RelevanceModel, which is copied."""
    shutil.copytree(model, folder / MODEL)
    products.save(folder / NEIGHBOURS)
    hybrid.save(folder / HYBRID)
    save_template(folder, text)


def find_scorer(reference: str, store: Store) -> Scorer:
    """`scorer/NAME[@VERSION]` of the store, on a GPU where there is one.

    Raises `UsageError` for another kind of name, `RaylevanceError` where there is no such scorer.
    """
    if not reference.startswith("scorer/"):
        raise UsageError(f"--scorer {reference}: expected scorer/NAME[@VERSION]")
    folder = store.path(reference)
    if not (folder / HYBRID).is_file():
        raise RaylevanceError(f"{reference}: has no {HYBRID}; it is no scorer of pairs")
    return Scorer(
        model=RelevanceModel.load(folder / MODEL).to("cuda" if torch.cuda.is_available() else "cpu"),
        products=ProductQueries.load(folder / NEIGHBOURS),
        hybrid=Hybrid.load(folder / HYBRID),
        text=ProductText.model_validate_json((folder / TEXT_TEMPLATE).read_text(encoding="utf-8")),
    )


def score_pairs(
    scorer: Scorer, queries: Sequence[str], texts: Sequence[str], product_ids: Sequence[str | None] | None = None
) -> Values:
    """The probability float64 [n] that each item is relevant to its query; arguments as `gather_evidence`."""
    return scorer.hybrid(gather_evidence(scorer.model, scorer.products, queries, texts, product_ids))


def gather_evidence(
    model: RelevanceModel,
    products: ProductQueries,
    queries: Sequence[str],
    texts: Sequence[str],
    product_ids: Sequence[str | None] | None = None,
) -> Evidence:
    """What a hybrid is fitted on and scores by, of n pairs of `queries` and item `texts`.

    A product's neighbour queries are found by its id in `product_ids`, else by its text.
    """
    places = {query: row for row, query in enumerate(dict.fromkeys(queries))}
    vectors = model.encoder.encode_queries(list(places))[[places[query] for query in queries]]
    transfer, highest = products.neighbours.transfer(vectors, products.rows(texts, product_ids))
    return Evidence(model.score(queries, texts).astype(np.float64), transfer, highest)
