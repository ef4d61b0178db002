"""What one replica answers from: an index and the versions of everything that made it, loaded and replaced as one."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance import __version__
from raylevance.artifacts import Artifact, Store, parse_reference
from raylevance.errors import RaylevanceError, UsageError
from raylevance.index.products import ProductIndex
from serve.messages import Hit, SearchRequest, Versions

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """An index with its versions. Immutable, so that a request that holds one never mixes two."""

    index: ProductIndex
    versions: Versions

    @classmethod
    def load(cls, store: str, versions: Versions) -> Self:
        """Read the index that `versions` names. Raises `RaylevanceError` where it is damaged."""
        return cls(ProductIndex.load(Store(store).path(versions.index)), versions)

    def search(self, request: SearchRequest, vector: Vector) -> list[Hit]:
        """The hits of `request`, whose query the encoder made `vector` [d] of; grades come from it in every mode."""
        [found] = self.index.search(
            [request.query],
            vector[None, :],
            request.k,
            request.mode,
            request.filters,
            request.minimum_grade,
        )
        rows = pa.array([hit.row for hit in found], pa.int64())
        products = self.index.products.select(["title", "brand", "category"]).take(rows)
        return [
            Hit(
                product_id=hit.product_id,
                score=hit.score,
                grade=hit.grade,
                dense_score=hit.dense_score,
                lexical_score=hit.lexical_score,
                **product,
            )
            for hit, product in zip(found, products.to_pylist(), strict=True)
        ]


def pin(store: Store, reference: str) -> Versions:
    """The versions behind the index `reference`, the newest one where it names none, as its manifest lists them.

    Raises `RaylevanceError` where the index or its encoder is missing or damaged, `UsageError` where it is no index.
    """
    if not parse_reference(reference)[0].startswith("index/"):
        raise UsageError(f"{reference}: not an index; expected index/NAME or index/NAME@VERSION")
    index = store.get(reference)
    versions = Versions(
        index=index.ref,
        encoder=_parent(index, "encoder"),
        tables=_parent(index, "tables"),
        raylevance=__version__,
    )
    for loaded in (versions.index, versions.encoder):
        store.path(loaded)
    return versions


def _parent(index: Artifact, kind: str) -> str:
    for parent in index.parents:
        if parent.startswith(f"{kind}/"):
            return parent
    raise RaylevanceError(f"{index.ref}: its manifest names no {kind} that it was made from; build the index again")
