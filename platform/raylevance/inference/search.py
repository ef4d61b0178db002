"""Product search from an artifact `index/NAME` of the store.

From a script, `load` gives a function of the query text:

    search = load(Store("store"), "index/stage2")
    search("wireless earbuds", k=10)

A server holds the index and the encoder in different processes. It calls `pin` once, then `load_index` and
`load_query_encoder` where each is needed, so that all processes use the same versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raylevance.artifacts import Artifact, Store, parse_reference
from raylevance.config import Settings
from raylevance.data.negation import excluded_stems, exclusions, word_stem
from raylevance.data.words import words as words_of
from raylevance.errors import RaylevanceError, UsageError
from raylevance.index.filters import Filters
from raylevance.index.lexical_words import stems
from raylevance.index.products import Hit, OpenShards, ProductIndex
from raylevance.index.ranking import Mode
from raylevance.index.vectors import Vectors

if TYPE_CHECKING:
    from raylevance.models.encoder import Encoder

SHOWN_COLUMNS = ["title", "brand", "category"]


class SearchVersions(Settings):
    """The artifacts that a search answers from, each as `kind/name@version`."""

    index: str
    encoder: str
    tables: str


@dataclass(frozen=True, slots=True)
class ProductHit(Hit):
    """A hit of a search, with what the catalogue says about the product."""

    title: str
    brand: str | None
    category: list[str] | None
    """The category path, from the root."""


@dataclass(frozen=True)
class ProductSearch:
    """An index that is loaded, with its versions. It answers queries that its encoder has encoded."""

    index: ProductIndex
    versions: SearchVersions

    def search(
        self,
        query: str,
        vector: Vectors | None,
        k: int = 10,
        mode: Mode = "hybrid",
        filters: Filters | None = None,
        minimum_grade: int = 0,
    ) -> list[ProductHit]:
        """Return at most `k` products for one query, best first.

        `vector` is the unit vector float32 [d] that the query encoder makes of `query`; None will do where
        `needs_vector` is false, and then hits have neither cosine nor grade. `minimum_grade` drops the hits of a lower
        grade, so that fewer than `k` may be left.

        Raises `UsageError` for an unknown mode, a `k` below 1 or a minimum grade that is no grade, where a vector is
        needed and missing, and for a minimum grade when the index has no grade bands.
        """
        vectors = None if vector is None else vector[None, :]
        [hits] = self.search_all([query], vectors, k, mode, filters, minimum_grade)
        return hits

    def search_all(
        self,
        queries: Sequence[str],
        vectors: Vectors | None,
        k: int = 10,
        mode: Mode = "hybrid",
        filters: Filters | None = None,
        minimum_grade: int = 0,
    ) -> list[list[ProductHit]]:
        """Return the hits of each of m queries, with `vectors` float32 [m, d], as `search` does for one."""
        hits_by_query = self.index.search(queries, vectors, k, mode=mode, filters=filters, minimum_grade=minimum_grade)
        rows = pa.array([hit.row for hits in hits_by_query for hit in hits], pa.int64())
        shown = iter(self.index.products.select(SHOWN_COLUMNS).take(rows).to_pylist())
        return [[_shown(hit, next(shown)) for hit in hits] for hits in hits_by_query]


def _shown(hit: Hit, product: dict[str, Any]) -> ProductHit:
    return ProductHit(
        product_id=hit.product_id,
        row=hit.row,
        score=hit.score,
        dense_score=hit.dense_score,
        lexical_score=hit.lexical_score,
        grade=hit.grade,
        **product,
    )


@dataclass(frozen=True)
class TextSearch:
    """A search by query text: an index together with the encoder of its queries."""

    products: ProductSearch
    encoder: "Encoder"

    def __call__(
        self,
        query: str,
        k: int = 10,
        mode: Mode = "hybrid",
        filters: Filters | None = None,
        minimum_grade: int = 0,
    ) -> list[ProductHit]:
        """Encode `query` if need be, and return at most `k` products for it, as `ProductSearch.search` does."""
        vector = self.encoder.encode_queries([query])[0] if needs_vector(mode, minimum_grade) else None
        return self.products.search(query, vector, k, mode=mode, filters=filters, minimum_grade=minimum_grade)


def needs_vector(mode: Mode, minimum_grade: int) -> bool:
    """Return whether a search needs the query's vector: to rank by it, or to grade what BM25 found."""
    return mode != "lexical" or minimum_grade > 0


def words_found(query: str, texts: Sequence[str]) -> list[list[str]]:
    """Return the words of `query` that each of n texts has, by their stems, in their order.

    Stop words are left out, and words that the query excludes.
    """
    excluded, words = excluded_stems(query), list(dict.fromkeys(query.split()))
    of_words, of_texts = stems(words), [set(found) for found in stems(texts)]
    wanted = [
        (word, found)
        for word, found in zip(words, of_words, strict=True)
        if excluded.isdisjoint(map(word_stem, words_of(word)))
    ]
    return [[word for word, found in wanted if found and text.issuperset(found)] for text in of_texts]


def excluded_words_found(query: str, titles: Sequence[str]) -> list[list[str]]:
    """Return the words that `query` excludes ("lamp without cord") and each of n titles has, in their order.

    A word that a title excludes too ("cordless") is not found in it.
    """
    excluded = excluded_stems(query)
    words = list(dict.fromkeys(words_of(query))) if excluded else []
    of_words = {word: excluded & {word_stem(word)} for word in words}
    return [[word for word, found in of_words.items() if exclusions(found, [title])[0] > 0] for title in titles]


def load(store: Store, reference: str) -> TextSearch:
    """Load `index/NAME[@VERSION]` of the store with the encoder that it was built with; the newest version by default.

    Raises `UsageError` for another kind of reference, `RaylevanceError` when the index or its encoder is missing or
    damaged.
    """
    versions = pin(store, reference)
    return TextSearch(load_index(store, versions), load_query_encoder(store, versions.encoder))


def pin(store: Store, reference: str) -> SearchVersions:
    """Return the versions behind `index/NAME[@VERSION]`, as its manifest lists them, without loading anything.

    The files of the index and of its encoder are checked against their hashes. Raises as `load` does.
    """
    if not parse_reference(reference)[0].startswith("index/"):
        raise UsageError(f"{reference}: not an index; expected index/NAME or index/NAME@VERSION")
    index = store.get(reference)
    versions = SearchVersions(
        index=index.ref, encoder=_find_parent(index, "encoder"), tables=_find_parent(index, "tables")
    )
    for artifact in (versions.index, versions.encoder):
        store.path(artifact)
    return versions


def load_index(
    store: Store, versions: SearchVersions, *, use_gpu: bool = False, shards: OpenShards | None = None
) -> ProductSearch:
    """Load the index that `versions` names, without its encoder; `shards` as for `ProductIndex.load`.

    Raises `RaylevanceError` when it is missing or damaged, or when `use_gpu` is set and a GPU can't search it.
    """
    return ProductSearch(ProductIndex.load(store.path(versions.index), use_gpu=use_gpu, shards=shards), versions)


def load_query_encoder(store: Store, reference: str, *, use_gpu: bool = False) -> "Encoder":
    """Load `encoder/NAME[@VERSION]` to encode queries, on the CPU or on the GPU of this process.

    Raises `RaylevanceError` when it is missing or damaged, or when `use_gpu` is set and torch sees no GPU.
    """
    from raylevance.inference.encoder import load as load_encoder

    return read_query_encoder(load_encoder(store, reference).path, use_gpu=use_gpu)


def read_query_encoder(folder: Path, *, use_gpu: bool = False) -> "Encoder":
    """Load the encoder in `folder` to encode queries, on the CPU or on the GPU of this process.

    Raises `RaylevanceError` when it is damaged, or when `use_gpu` is set and torch sees no GPU.
    """
    # Imported here because a process that only holds an index does without torch.
    import torch

    from raylevance.models.encoder import Encoder
    from raylevance.models.precision import prepare_for_inference

    if use_gpu and not torch.cuda.is_available():
        raise RaylevanceError(f"{folder}: torch sees no GPU to encode on; install raylevance[gpu], or use the CPU")
    encoder = Encoder.load(folder).to("cuda" if use_gpu else "cpu")
    prepare_for_inference(encoder)
    return encoder


def _find_parent(index: Artifact, kind: str) -> str:
    for parent in index.parents:
        if parent.startswith(f"{kind}/"):
            return parent
    raise RaylevanceError(
        f"{index.ref}: its manifest does not name the {kind} that it was made from; build the index again"
    )
