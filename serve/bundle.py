"""Everything that one replica answers from, loaded at pinned versions and replaced as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance import __version__
from raylevance.artifacts import Store, parse_reference
from raylevance.client.messages import Versions
from raylevance.errors import RaylevanceError
from raylevance.inference import bundle as bundles
from raylevance.inference import item_table, product_texts, query_classifier, scorer, search
from raylevance.inference.bundle import BundleVersions
from raylevance.inference.item_table import Recommender
from raylevance.inference.product_texts import ProductTexts
from raylevance.inference.query_classifier import LoadedClassifier
from raylevance.inference.search import ProductSearch, SearchVersions
from serve.problems import NotServed
from serve.shards import ShardProcesses

Vectors = npt.NDArray[np.float32]
"""A unit vector [d], or unit vectors [n, d]."""


@dataclass(frozen=True)
class ScorerSide:
    """The parts of a scorer beside its model: the item texts of the catalogue as the model reads them, and the
    probability from which a pair counts as relevant (None for a scorer without one)."""

    texts: ProductTexts
    threshold: float | None

    @classmethod
    def load(cls, store: Store, tables: str, reference: str) -> Self:
        """Load the texts of `tables` for the scorer `reference`. Raises `RaylevanceError` when one is damaged."""
        return cls(product_texts.load(store, tables, reference), scorer.read_threshold(store, reference))

    def is_relevant(self, probability: float | None) -> bool | None:
        """Return whether `probability` reaches the threshold; None without either."""
        return None if probability is None or self.threshold is None else probability >= self.threshold


@dataclass(frozen=True)
class Bundle:
    """The predictors behind the answers, and the versions of all that made them.

    A bundle never changes, so a request that holds one cannot mix two versions.
    """

    products: ProductSearch
    versions: Versions
    classifier: LoadedClassifier | None = None
    items: Recommender | None = None
    scorer: ScorerSide | None = None

    @classmethod
    def load(
        cls, store: Store, versions: Versions, *, use_gpu: bool = False, processes: ShardProcesses | None = None
    ) -> Self:
        """Load the predictors at `versions`; `use_gpu` searches vectors on the GPU.

        With `processes`, these hold the shards of the index, and only its products are loaded here.

        Raises `RaylevanceError` when one is missing or damaged, or when the GPU can't search this index.
        """
        shards = partial(processes.opened, versions.index) if processes else None
        found = SearchVersions(index=versions.index, encoder=versions.encoder, tables=versions.tables)
        return cls(
            products=search.load_index(store, found, use_gpu=use_gpu, shards=shards),
            versions=versions,
            classifier=query_classifier.load(store, versions.classifier) if versions.classifier else None,
            items=item_table.load(store, versions.items) if versions.items else None,
            scorer=ScorerSide.load(store, versions.tables, versions.scorer) if versions.scorer else None,
        )

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each product of the index, by its id."""
        return {product_id: row for row, product_id in enumerate(self.products.index.product_ids)}

    def shown(self, product_ids: Sequence[str]) -> list[dict[str, object]]:
        """Return title, brand and category of each product; nulls for one that the index does not have."""
        rows = pa.array([self.row_of.get(product_id) for product_id in product_ids], pa.int64())
        columns = self.products.index.products.select(search.SHOWN_COLUMNS)
        found: list[dict[str, object]] = columns.take(rows).to_pylist()
        return found

    def need_classifier(self) -> LoadedClassifier:
        """Return the classifier. Raises `NotServed` where there is none."""
        if self.classifier is None:
            raise NotServed("no classifier is served; start the server with --classifier, or add one to the bundle")
        return self.classifier

    def need_items(self) -> Recommender:
        """Return the table of items. Raises `NotServed` where there is none."""
        if self.items is None:
            raise NotServed("no table of items is served; start the server with --items, or add one to the bundle")
        return self.items

    def need_scorer(self) -> ScorerSide:
        """Return what is known of the scorer. Raises `NotServed` where there is none."""
        if self.scorer is None:
            raise NotServed("no scorer is served; start the server with --scorer, or add one to the bundle")
        return self.scorer


def versions_of(found: BundleVersions, bundle: str | None = None) -> Versions:
    """Return the versions of an answer from the artifacts of a bundle, and the version of the code."""
    return Versions(**found.model_dump(), bundle=bundle, raylevance=__version__)


def newest_versions(store: Store, bundle: str) -> Versions:
    """Return the versions of the newest version of `bundle/NAME` that can be read; those of the one that it names.

    Raises `RaylevanceError` with the reason of the newest where none can be read.
    """
    name, version = parse_reference(bundle)
    found = [] if version else [artifact.ref for artifact in store.versions(name)[0]]
    reason: RaylevanceError | None = None
    for reference in found or [bundle]:
        try:
            return read_versions(store, reference)
        except RaylevanceError as error:
            reason = reason or error
    assert reason is not None
    raise reason


def read_versions(store: Store, bundle: str) -> Versions:
    """Return the versions that `bundle/NAME[@VERSION]` names. Raises as `raylevance.inference.bundle.read` does."""
    reference = store.get(bundle).ref
    return versions_of(bundles.read(store, reference), reference)
