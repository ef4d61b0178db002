"""The index of a catalogue: vectors, BM25, the products, filters and grade bands, searched together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

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
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors

COLUMNS = ["product_id", "title", "brand", "color", "category", "locale"]
VECTORS_FOLDER, LEXICAL_FOLDER, PRODUCTS_FILE, HEADER_FILE = "vectors", "lexical", "products.parquet", "index.json"


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


class IndexHeader(Settings):
    """The content of `index.json`: facts about the index as a whole."""

    products: int
    bands: GradeBands | None
    fusion: FusionSettings = FusionSettings(method="weighted")
    """An index without this was made when `weighted` was the only method."""


class ProductIndex:
    """Products that can be searched by their vectors, by their words, or by both."""

    def __init__(
        self,
        products: pa.Table,
        vectors: VectorIndex,
        lexical: LexicalIndex,
        bands: GradeBands | None,
        fusion: FusionSettings,
    ) -> None:
        """Combine the parts of an index. `products` has the columns `COLUMNS`. Row i of each part is one product."""
        self.products = products
        self.vectors = vectors
        self.lexical = lexical
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

        Raises `RaylevanceError` if `products` and `vectors` differ in length, and as `VectorIndex.build` and
        `LexicalIndex.build_fields` do.
        """
        if products.num_rows != len(vectors):
            lengths = f"{products.num_rows} products, {len(vectors)} vectors"
            raise RaylevanceError(f"an index needs one vector for each product, got {lengths}")
        lexical = LexicalIndex.build_fields(field_texts(products), settings.lexical)
        return cls(products.select(COLUMNS), VectorIndex.build(vectors, settings), lexical, bands, settings.fusion)

    def __len__(self) -> int:
        return len(self.product_ids)

    def describe(self) -> dict[str, Any]:
        """Return the number of products, the description of the vector index, and the grade bands."""
        bands = self.bands.model_dump() if self.bands else None
        return {"products": len(self), "vectors": self.vectors.describe(), "bands": bands}

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

        Raises `UsageError` if the mode is unknown, or if vectors or grade bands are needed and missing.
        """
        fusion = fusion or self.fusion
        self._check_request(query_vectors, mode, minimum_grade, fusion)
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
                depth=depth,
                allowed=allowed,
                bands=self.bands,
            )
        elif mode == "lexical":
            ranking = lexical = self.lexical.search(query_texts, depth, allowed)
        else:
            assert query_vectors is not None
            ranking = self.vectors.search(query_vectors, depth, allowed)
        hits_by_query = self._hits(ranking, lexical, query_vectors)
        return [[hit for hit in hits if (hit.grade or 0) >= (minimum_grade or 0)][:k] for hits in hits_by_query]

    def save(self, folder: Path) -> None:
        """Write the index to `folder`, as FAISS, NumPy, Parquet and JSON files."""
        self.vectors.save(folder / VECTORS_FOLDER)
        self.lexical.save(folder / LEXICAL_FOLDER)
        pq.write_table(self.products, folder / PRODUCTS_FILE)
        header = IndexHeader(products=len(self), bands=self.bands, fusion=self.fusion)
        (folder / HEADER_FILE).write_text(header.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, use_gpu: bool = False) -> Self:
        """Load an index that `save` wrote. Raises `RaylevanceError` if a file is missing or damaged."""
        try:
            header = IndexHeader.model_validate_json((folder / HEADER_FILE).read_text(encoding="utf-8"))
            products = pq.read_table(folder / PRODUCTS_FILE)
        except OSError as error:
            raise RaylevanceError(f"{folder}: not an index: {error}") from None
        except (ValidationError, pa.ArrowInvalid) as error:
            first_line = str(error).splitlines()[0]
            raise RaylevanceError(f"{folder}: damaged index; build it again: {first_line}") from None
        vectors = VectorIndex.load(folder / VECTORS_FOLDER, use_gpu=use_gpu)
        lexical = LexicalIndex.load(folder / LEXICAL_FOLDER)
        if not header.products == products.num_rows == len(vectors) == len(lexical):
            lengths = f"{products.num_rows} products, {len(vectors)} vectors, {len(lexical)} BM25 documents"
            raise RaylevanceError(
                f"{folder}: damaged index; build it again: expected {header.products} products, got {lengths}"
            )
        return cls(products, vectors, lexical, header.bands, header.fusion)

    def _check_request(
        self, query_vectors: Vectors | None, mode: str, minimum_grade: int | None, fusion: FusionSettings
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"unknown mode {mode!r}; {nearest(mode, MODES)}")
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
        hits = []
        for query, (scores, rows) in enumerate(zip(*ranking, strict=True)):
            present = rows >= 0
            scores, rows = scores[present], rows[present]
            cosines, bm25 = None, {}
            if lexical is None:
                cosines = scores
            else:
                bm25 = dict(zip(lexical[1][query].tolist(), lexical[0][query].tolist(), strict=True))
                if query_vectors is not None:
                    cosines = self.vectors.vectors(rows) @ query_vectors[query]
            hits.append(self._hits_of_query(scores, rows, cosines, bm25))
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
