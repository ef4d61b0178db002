"""The relevance scorer: a relevance model, the neighbour queries of products, and a calibrated combination of both.

A `scorer/NAME` artifact holds `model` (the folder of a `RelevanceModel`), `neighbours` (a `ProductQueries`),
`hybrid.json` (a `Hybrid`), `product_text.json` (the template of the item texts) and `threshold.json` (the probability
from which a pair counts as relevant; scorers made before do not have it).
"""

import json
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
from raylevance.inference.encoder import read_template, save_template
from raylevance.inference.product_queries import ProductQueries
from raylevance.models.hybrid import Evidence, Hybrid, Values
from raylevance.models.relevance import RelevanceModel

MODEL, NEIGHBOURS, HYBRID, THRESHOLD = "model", "neighbours", "hybrid.json", "threshold.json"


@dataclass(frozen=True)
class Scorer:
    """A scorer that is loaded and ready to score pairs."""

    model: RelevanceModel
    products: ProductQueries
    hybrid: Hybrid
    text: ProductText
    """The template of the item texts that `model` was trained on."""
    threshold: float | None = None
    """The probability from which a pair counts as relevant: that of the best F1 on the validation pairs; None for a
    scorer that was saved without it."""

    def score(
        self, queries: Sequence[str], texts: Sequence[str], product_ids: Sequence[str | None] | None = None
    ) -> Values:
        """Return the probability float64 [n] that each item is relevant to the query in the same place.

        The neighbour queries of a product are found by its id in `product_ids` where given, otherwise by its text.
        """
        return self.hybrid(gather_evidence(self.model, self.products, queries, texts, product_ids))

    def item_texts(self, products: pa.Table) -> list[str]:
        """Compose the text of each row of a products table as the model was trained to read it."""
        return self.text.compose(products)


def load(store: Store, reference: str) -> Scorer:
    """Load `scorer/NAME[@VERSION]` of the store, onto the GPU where there is one.

    Raises `UsageError` for another kind of reference, `RaylevanceError` when there is no such scorer or it is damaged.
    """
    if not reference.startswith("scorer/"):
        raise UsageError(f"scorer {reference!r}: expected scorer/NAME or scorer/NAME@VERSION")
    folder = store.path(reference)
    text = read_template(folder)
    if text is None or not (folder / HYBRID).is_file():
        raise RaylevanceError(f"{reference}: has no {HYBRID}, so it can't score pairs; name another scorer")
    return Scorer(
        model=RelevanceModel.load(folder / MODEL).to("cuda" if torch.cuda.is_available() else "cpu"),
        products=ProductQueries.load(folder / NEIGHBOURS),
        hybrid=Hybrid.load(folder / HYBRID),
        text=text,
        threshold=read_threshold(store, reference),
    )


def save_scorer(
    folder: Path,
    model: Path,
    products: ProductQueries,
    hybrid: Hybrid,
    text: ProductText,
    threshold: float | None = None,
) -> None:
    """Write a scorer to `folder`, copying the `RelevanceModel` in the folder `model`.

    `threshold` is the probability from which a pair counts as relevant, chosen on validation pairs.
    """
    shutil.copytree(model, folder / MODEL)
    products.save(folder / NEIGHBOURS)
    hybrid.save(folder / HYBRID)
    save_template(folder, text)
    if threshold is not None:
        (folder / THRESHOLD).write_text(json.dumps({"threshold": threshold}), encoding="utf-8")


def gather_evidence(
    model: RelevanceModel,
    products: ProductQueries,
    queries: Sequence[str],
    texts: Sequence[str],
    product_ids: Sequence[str | None] | None = None,
) -> Evidence:
    """Return the log-odds of the model and the neighbour-query scores of n pairs, from which a `Hybrid` scores them.

    The neighbour queries of a product are found by its id in `product_ids` where given, otherwise by its text.
    """
    row_of = {query: row for row, query in enumerate(dict.fromkeys(queries))}
    vectors = model.encoder.encode_queries(list(row_of))[[row_of[query] for query in queries]]
    transfer, highest = products.neighbours.transfer(vectors, products.rows(texts, product_ids))
    return Evidence(model.score(queries, texts).astype(np.float64), transfer, highest)


def read_threshold(store: Store, reference: str) -> float | None:
    """Return the probability from which a pair counts as relevant to `scorer/NAME[@VERSION]`; None if it has none."""
    return _read_threshold(store.path(reference) / THRESHOLD, reference)


def _read_threshold(file: Path, reference: str) -> float | None:
    if not file.is_file():
        return None
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["threshold"])
    except (ValueError, KeyError, TypeError):
        raise RaylevanceError(f"{reference}: {file.name} holds no threshold; train the scorer again") from None
