"""Everything that one replica answers from, loaded at pinned versions and replaced as one."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from raylevance import __version__
from raylevance.artifacts import Store
from raylevance.inference import search
from raylevance.inference.search import ProductSearch
from serve.messages import Hit, SearchRequest, Versions

Vectors = npt.NDArray[np.float32]
"""A unit vector [d], or unit vectors [n, d]."""


@dataclass(frozen=True)
class Bundle:
    """The predictors behind the answers and the versions of all that made them.

    A bundle never changes, so a request that holds one cannot mix two versions.
    """

    products: ProductSearch
    versions: Versions

    @classmethod
    def load(cls, store: Store, versions: Versions, *, use_gpu: bool = False) -> Self:
        """Load the predictors at `versions`; `use_gpu` searches vectors on the GPU.

        Raises `RaylevanceError` when one is missing or damaged, or when the GPU can't search this index.
        """
        return cls(search.load_index(store, versions, use_gpu=use_gpu), versions)

    def search(self, request: SearchRequest, vector: Vectors | None) -> list[Hit]:
        """Return the hits of `request`, best first.

        `vector` is the unit vector float32 [d] of its query, or None where the request does not need it.
        """
        hits = self.products.search(
            request.query,
            vector,
            request.k,
            mode=request.mode,
            filters=request.filters,
            minimum_grade=request.minimum_grade,
        )
        return [Hit.model_validate(hit, from_attributes=True) for hit in hits]


def pin_versions(store: Store, index: str) -> Versions:
    """Return the versions behind `index/NAME[@VERSION]` and that of the code; the newest version by default.

    Raises `UsageError` for another kind of reference, `RaylevanceError` when the index or its encoder is missing or
    damaged.
    """
    return Versions(**search.pin(store, index).model_dump(), raylevance=__version__)
