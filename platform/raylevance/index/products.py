"""The index of a catalogue: vectors, BM25, the products, filters and grade bands, searched together."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import PositiveInt, ValidationError, field_validator

from raylevance.config import Settings
from raylevance.data.text import field_texts
from raylevance.errors import RaylevanceError, UsageError, nearest
from raylevance.index.filters import FilterColumns, Filters
from raylevance.index.fusion import FusionSettings, Ranking
from raylevance.index.grades import GradeBands
from raylevance.index.hybrid_search import search_hybrid
from raylevance.index.lexical import LexicalIndex
from raylevance.index.lexical_fields import LexicalSettings
from raylevance.index.ranking import MODES, Mode, Rows, Scores
from raylevance.index.shards import (
    SHARDS_FOLDER,
    IndexShard,
    LocalShards,
    ShardedLexical,
    ShardedVectors,
    Shards,
    damaged,
    shard_bounds,
    vectors_of,
)
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors

COLUMNS = ["product_id", "title", "brand", "color", "category", "locale"]
PRODUCTS_FILE, HEADER_FILE = "products.parquet", "index.json"


@dataclass(frozen=True, slots=True)
class Hit:
    """A product found by a search."""

    product_id: str
    row: int
    """Row of the product in `ProductIndex.products`."""
    score: float
    """Score by which hits are ranked: the cosine, BM25, or the fused score."""
    dense_score: float | None
    """The cosine. None for a lexical search without query vectors."""
    lexical_score: float | None
    """The BM25 score. None if BM25 was not used or did not find the product."""
    grade: int | None
    """Grade of the cosine, 0 to 2. None without a cosine or without grade bands."""


class ProductIndexSettings(IndexSettings):
    """How the products of a catalogue are indexed."""

    lexical: LexicalSettings = LexicalSettings()
    """How BM25F weighs the fields of a product, in lexical and hybrid searches."""
    fusion: FusionSettings = FusionSettings()
    """How a hybrid search fuses the dense and the lexical ranking."""
    shards: PositiveInt = 1
    """Number of parts of equal size. Each can be searched by a process of its own, which then holds no other part."""


class IndexHeader(Settings):
    """The content of `index.json`: facts about the index as a whole."""

    products: int
    bands: GradeBands | None
    fusion: FusionSettings = FusionSettings(method="weighted")
    """An index without this was made when `weighted` was the only method."""
    shards: list[int] | None = None
    """The number of rows of each shard, in a folder each; null for an index that is one."""

    @field_validator("fusion", mode="before")
    @classmethod
    def _as_made(cls, fusion: Any) -> Any:
        """Let an index that was made before these weights rank as it did."""
        return {"excluded_weight": 0, "category_weight": 0} | fusion if isinstance(fusion, dict) else fusion


OpenShards = Callable[[Sequence[int]], Shards]
"""Returns the shards of an index, given the number of rows of each."""


def shard_folders(folder: Path, header: IndexHeader) -> list[Path]:
    """Return the folder of each shard of the index in `folder`, which is `folder` itself for an index that is one."""
    if header.shards is None:
        return [folder]
    return [folder / SHARDS_FOLDER / str(number) for number in range(len(header.shards))]


def read_header(folder: Path) -> IndexHeader:
    """Return the header of the index in `folder`. Raises `RaylevanceError` if it is missing or damaged."""
    try:
        return IndexHeader.model_validate_json((folder / HEADER_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise RaylevanceError(f"{folder}: not an index: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged(folder, f"{HEADER_FILE}: {where}: {first['msg']}") from None


class ProductIndex:
    """Products that can be searched by their vectors, by their words, or by both."""

    def __init__(
        self,
        products: pa.Table,
        shards: Shards,
        bands: GradeBands | None,
        fusion: FusionSettings,
    ) -> None:
        """Combine the parts of an index. `products` has the columns `COLUMNS`. Its rows are those of all shards."""
        # In one chunk: Arrow copies all chunks of a column of texts to take a few rows of them.
        self.products = products.combine_chunks()
        self.shards = shards
        self.vectors = ShardedVectors(shards)
        self.lexical = ShardedLexical(shards)
        self.bands = bands
        self.fusion = fusion
        self.product_ids: list[str] = products["product_id"].to_pylist()
        self._columns = FilterColumns(products)

    @classmethod
    def build(
        cls,
        products: pa.Table,
        vectors: Vectors,
        settings: ProductIndexSettings,
        bands: GradeBands | None = None,
    ) -> Self:
        """Index `products` (our products schema), n rows, with BM25F over their `field_texts`.

        - `vectors`: the encoder's vector of each product, float32 [n, d], unit norm.
        - `bands`: grade bands of the encoder. Without them, hits have no grade.

        Raises `RaylevanceError` if `products` and `vectors` differ in length or there are more shards than products,
        and as `VectorIndex.build` and `LexicalIndex.build_fields` do.
        """
        if products.num_rows != len(vectors):
            lengths = f"{products.num_rows} products, {len(vectors)} vectors"
            raise RaylevanceError(f"an index needs one vector for each product, got {lengths}")
        if settings.shards > products.num_rows:
            raise RaylevanceError(f"shards={settings.shards} is more than the {products.num_rows} products; set fewer")
        bounds = shard_bounds(products.num_rows, settings.shards)
        lexical = LexicalIndex.build_fields(field_texts(products), settings.lexical).split(bounds)
        parts = (VectorIndex.build(vectors[first:stop], settings) for first, stop in bounds)
        shards = LocalShards([IndexShard(*pair) for pair in zip(parts, lexical, strict=True)])
        return cls(products.select(COLUMNS), shards, bands, settings.fusion)

    def __len__(self) -> int:
        return len(self.product_ids)

    def describe(self) -> dict[str, Any]:
        """Return the number of products, the description of the vectors (a list for several shards), and the bands."""
        bands = self.bands.model_dump() if self.bands else None
        vectors = [shard.vectors.describe() for shard in self._local_shards()]
        return {"products": len(self), "vectors": vectors if len(vectors) > 1 else vectors[0], "bands": bands}

    def with_lexical(self, lexical: LexicalIndex, fusion: FusionSettings) -> "ProductIndex":
        """Return an index of the same products and vectors with the words of `lexical`, which has a text for each."""
        shards = self._local_shards()
        parts = lexical.split(shard_bounds(len(self), len(shards)))
        local = LocalShards([IndexShard(shard.vectors, part) for shard, part in zip(shards, parts, strict=True)])
        return ProductIndex(self.products, local, self.bands, fusion)

    def search(
        self,
        query_texts: Sequence[str],
        query_vectors: Vectors | None,
        k: int,
        mode: Mode = "hybrid",
        filters: Filters | None = None,
        minimum_grade: int | None = None,
        fusion: FusionSettings | None = None,
    ) -> list[list[Hit]]:
        """Search for at most `k` products for each of m queries, best first.

        - `query_vectors`: float32 [m, d], unit norm. A lexical search works without them, and then returns no cosines.
        - `filters`: conditions that products must meet.
        - `minimum_grade`: drops products of a lower grade from the best `fusion.depth` (or `k`, if that is more), so
          fewer than `k` may be left.
        - `fusion`: overrides the settings of the index.

        Raises `UsageError` if the mode is unknown, `k` is below 1 or `minimum_grade` is no grade, or if vectors or
        grade bands are needed and missing.
        """
        fusion = fusion or self.fusion
        self._check_request(query_vectors, k, mode, minimum_grade, fusion)
        allowed = self._columns.allowed(filters) if filters else None
        depth = max(k, fusion.depth) if minimum_grade or mode == "hybrid" else k
        lexical = None
        if mode == "hybrid":
            assert query_vectors is not None
            ranking, lexical = search_hybrid(
                self.vectors,
                self.lexical,
                query_texts,
                query_vectors,
                2 * depth,
                fusion,
                products=self.products,
                depth=depth,
                allowed=allowed,
                bands=self.bands,
            )
        elif mode == "lexical":
            ranking = lexical = self.lexical.search(query_texts, depth, allowed)
        else:
            assert query_vectors is not None
            ranking = self.vectors.search(query_vectors, depth, allowed)
        if not minimum_grade:
            scores, rows = ranking
            ranking = scores[:, :k], rows[:, :k]
        hits_by_query = self._hits(ranking, lexical, query_vectors)
        return [[hit for hit in hits if (hit.grade or 0) >= (minimum_grade or 0)][:k] for hits in hits_by_query]

    def save(self, folder: Path) -> None:
        """Write the index to `folder`, as FAISS, NumPy, Parquet and JSON files. Its shards must be of this process."""
        shards = self._local_shards()
        sizes = [len(shard) for shard in shards] if len(shards) > 1 else None
        header = IndexHeader(products=len(self), bands=self.bands, fusion=self.fusion, shards=sizes)
        for place, shard in zip(shard_folders(folder, header), shards, strict=True):
            shard.save(place)
        pq.write_table(self.products, folder / PRODUCTS_FILE)
        (folder / HEADER_FILE).write_text(header.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, use_gpu: bool = False, shards: OpenShards | None = None) -> Self:
        """Load an index that `save` wrote.

        `shards` is called with the number of rows of each shard, and returns those to search, for an index whose shards
        other processes hold; without it they are loaded here. Raises `RaylevanceError` if a file is missing or damaged.
        """
        header = read_header(folder)
        try:
            products = pq.read_table(folder / PRODUCTS_FILE)
        except OSError as error:
            raise RaylevanceError(f"{folder}: not an index: {error}") from None
        except pa.ArrowInvalid as error:
            raise damaged(folder, error) from None
        if shards is not None:
            opened = shards(header.shards or [header.products])
        else:
            places = shard_folders(folder, header)
            opened = LocalShards([IndexShard.load(place, use_gpu=use_gpu) for place in places])
        sizes = list(opened.sizes)
        if not header.products == products.num_rows == sum(sizes) or sizes != (header.shards or sizes):
            lengths = f"{products.num_rows} products, and {sizes} in the shards"
            raise damaged(folder, f"expected {header.products} products, got {lengths}")
        return cls(products, opened, header.bands, header.fusion)

    def _local_shards(self) -> Sequence[IndexShard]:
        if not isinstance(self.shards, LocalShards):
            raise TypeError("the shards of this index are in other processes")
        return self.shards.shards

    def _check_request(
        self, query_vectors: Vectors | None, k: int, mode: str, minimum_grade: int | None, fusion: FusionSettings
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"unknown mode {mode!r}; {nearest(mode, MODES)}")
        if k < 1:
            raise UsageError(f"k={k}: ask for 1 product or more")
        if minimum_grade not in (None, 0, 1, 2):
            raise UsageError(f"minimum_grade={minimum_grade}: grades are 0, 1 and 2")
        if query_vectors is None and mode != "lexical":
            raise UsageError(f"a {mode} search needs query vectors")
        if minimum_grade and query_vectors is None:
            raise UsageError("minimum_grade needs query vectors")
        graded = mode == "hybrid" and fusion.method == "graded"
        if (minimum_grade or graded) and self.bands is None:
            feature = "minimum_grade" if minimum_grade else "graded fusion"
            raise UsageError(
                f"{feature} needs grade bands, and this index has none: when it was built, its encoder had none, and "
                "its tables had no usable training judgements of two grades; add some, and build it again"
            )

    def _hits(self, ranking: Ranking, lexical: Ranking | None, query_vectors: Vectors | None) -> list[list[Hit]]:
        """Return all hits of each query. Without a `lexical` ranking, the scores of `ranking` are cosines."""
        cosines: Iterator[Scores | None] = itertools.repeat(None)
        if lexical is not None and query_vectors is not None:
            vectors = vectors_of(self.vectors, ranking[1])
            cosines = (part @ query for part, query in zip(vectors, query_vectors, strict=True))
        hits = []
        for query, (scores, rows, cosine) in enumerate(zip(*ranking, cosines, strict=False)):
            present = rows >= 0
            scores, rows = scores[present], rows[present]
            bm25: dict[int, float] = {}
            if lexical is not None:
                bm25 = dict(zip(lexical[1][query].tolist(), lexical[0][query].tolist(), strict=True))
            hits.append(self._hits_of_query(scores, rows, scores if lexical is None else cosine, bm25))
        return hits

    def _hits_of_query(self, scores: Scores, rows: Rows, cosines: Scores | None, bm25: dict[int, float]) -> list[Hit]:
        """Return the hits of one query. `scores`, `rows` and `cosines` are [n], and `bm25` has BM25 scores by row."""
        missing = [None] * len(rows)
        dense_scores = missing if cosines is None else cosines.tolist()
        grades = missing if cosines is None or self.bands is None else self.bands.grade(cosines).tolist()
        return [
            Hit(self.product_ids[row], row, score, dense_score, bm25.get(row), grade)
            for row, score, dense_score, grade in zip(rows.tolist(), scores.tolist(), dense_scores, grades, strict=True)
        ]
