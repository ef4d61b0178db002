"""The index of a catalogue: vectors, BM25, the products themselves, filters and grade bands, searched as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from raylevance.config import Settings
from raylevance.data.text import full_text
from raylevance.errors import RaylevanceError, UsageError, nearest
from raylevance.index.filters import FilterColumns, Filters
from raylevance.index.fusion import FusionSettings, Ranking, fuse
from raylevance.index.grades import GradeBands
from raylevance.index.lexical import LexicalIndex
from raylevance.index.ranking import Rows, Scores
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors

Mode = Literal["dense", "lexical", "hybrid"]
MODES = ["dense", "lexical", "hybrid"]
COLUMNS = ["product_id", "title", "brand", "color", "category", "locale"]
VECTORS, LEXICAL, PRODUCTS, HEADER = "vectors", "lexical", "products.parquet", "index.json"


@dataclass(frozen=True, slots=True)
class Hit:
    """A product that was found. `row` is its place in `ProductIndex.products`."""

    product_id: str
    row: int
    score: float
    """What the hit is ranked by: the cosine, BM25, or the fused score."""
    dense_score: float | None
    """The cosine; None in a lexical search without query vectors."""
    lexical_score: float | None
    """BM25; None where the lexical search did not find the product or was not made."""
    grade: int | None
    """The band of the cosine, 0 to 2; None without a cosine or without bands."""


class ProductIndexSettings(IndexSettings):
    """How vectors are indexed, and how a hybrid search joins them with BM25."""

    fusion: FusionSettings = FusionSettings()


class Header(Settings):
    """`index.json`: what belongs to the index as a whole."""

    products: int
    bands: GradeBands | None
    fusion: FusionSettings = FusionSettings()


class ProductIndex:
    """Products that are found by meaning, by words, or by both."""

    def __init__(
        self,
        products: pa.Table,
        vectors: VectorIndex,
        lexical: LexicalIndex,
        bands: GradeBands | None,
        fusion: FusionSettings,
    ) -> None:
        """`products`: `COLUMNS`, one row a vector and a BM25 document."""
        self.products = products
        self.vectors = vectors
        self.lexical = lexical
        self.bands = bands
        self.fusion = fusion
        self._ids: list[str] = products["product_id"].to_pylist()
        self._columns = FilterColumns(products)

    @classmethod
    def build(
        cls,
        products: pa.Table,
        vectors: Vectors,
        settings: ProductIndexSettings,
        bands: GradeBands | None = None,
    ) -> Self:
        """Index `products` (our products schema), n rows, BM25 on their `full_text`.

        `vectors`: what the encoder made of each product, float32 [n, d], unit norm.
        Without `bands` hits carry no grade. Raises `RaylevanceError` as `VectorIndex.build` and
        `LexicalIndex.build`, and where the two are not of one length.
        """
        if products.num_rows != len(vectors):
            lengths = f"{products.num_rows} products, {len(vectors)} vectors"
            raise RaylevanceError(f"an index needs one vector a product, got {lengths}")
        lexical = LexicalIndex.build(full_text(products))
        return cls(products.select(COLUMNS), VectorIndex.build(vectors, settings), lexical, bands, settings.fusion)

    def __len__(self) -> int:
        return len(self._ids)

    def describe(self) -> dict[str, Any]:
        """The number of products, the kind and the recall of the vector index, and the grade bands."""
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
        """At most `k` hits for each of m queries, best first.

        `query_vectors`: float32 [m, d], unit norm; a lexical search can do without and then returns no cosines.
        `minimum_grade` drops what the bands grade lower from the `fusion.depth` best (or `k`, if more), so that fewer
        than `k` may be left. `fusion`: in place of the index's own. Raises `UsageError` for an unknown mode, or where
        vectors or bands are needed and absent.
        """
        fusion = fusion or self.fusion
        self._check_request(query_vectors, mode, minimum_grade, fusion)
        allowed = self._columns.allowed(filters) if filters else None
        depth = max(k, fusion.depth) if minimum_grade or mode == "hybrid" else k
        lexical = None if mode == "dense" else self.lexical.search(query_texts, depth, allowed)
        ranking = lexical
        if query_vectors is not None and mode != "lexical":
            ranking = dense = self.vectors.search(query_vectors, depth, allowed)
            if lexical is not None:
                ranking = fuse(dense, lexical, 2 * depth, fusion, self.bands)
        assert ranking is not None
        hits = self._hits(ranking, lexical, query_vectors)
        return [[hit for hit in found if (hit.grade or 0) >= (minimum_grade or 0)][:k] for found in hits]

    def save(self, folder: Path) -> None:
        """Write the index into `folder`: FAISS, NumPy, Parquet and JSON files."""
        self.vectors.save(folder / VECTORS)
        self.lexical.save(folder / LEXICAL)
        pq.write_table(self.products, folder / PRODUCTS)
        header = Header(products=len(self), bands=self.bands, fusion=self.fusion)
        (folder / HEADER).write_text(header.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, use_gpu: bool = False) -> Self:
        """The index that `save` wrote. Raises `RaylevanceError` for a missing or torn file."""
        try:
            header = Header.model_validate_json((folder / HEADER).read_text(encoding="utf-8"))
            products = pq.read_table(folder / PRODUCTS)
        except OSError as error:
            raise RaylevanceError(f"{folder}: not an index: {error}") from None
        except (ValidationError, pa.ArrowInvalid) as error:
            raise RaylevanceError(f"{folder}: damaged index: {str(error).splitlines()[0]}") from None
        vectors = VectorIndex.load(folder / VECTORS, use_gpu=use_gpu)
        lexical = LexicalIndex.load(folder / LEXICAL)
        if not header.products == products.num_rows == len(vectors) == len(lexical):
            lengths = f"{products.num_rows} products, {len(vectors)} vectors, {len(lexical)} BM25 documents"
            raise RaylevanceError(f"{folder}: damaged index: {header.products} expected, got {lengths}")
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
            what = "minimum_grade" if minimum_grade else "graded fusion"
            raise UsageError(f"{what} needs grade bands, and this index was built without judgements")

    def _hits(self, ranking: Ranking, lexical: Ranking | None, query_vectors: Vectors | None) -> list[list[Hit]]:
        """The hits of each query, all of `ranking`, whose scores are cosines where there is no `lexical`."""
        found = []
        for query, (scores, rows) in enumerate(zip(*ranking, strict=True)):
            present = rows >= 0
            scores, rows = scores[present], rows[present]
            cosines, words = None, {}
            if lexical is None:
                cosines = scores
            else:
                words = dict(zip(lexical[1][query].tolist(), lexical[0][query].tolist(), strict=True))
                if query_vectors is not None:
                    cosines = self.vectors.vectors(rows) @ query_vectors[query]
            found.append(self._hits_of_query(scores, rows, cosines, words))
        return found

    def _hits_of_query(
        self, scores: Scores, rows: Rows, cosines: Scores | None, lexical: dict[int, float]
    ) -> list[Hit]:
        """`scores`, `rows`, `cosines`: [n]; `lexical`: BM25 by row."""
        nothing = [None] * len(rows)
        dense_scores = nothing if cosines is None else cosines.tolist()
        grades = nothing if cosines is None or self.bands is None else self.bands.grade(cosines).tolist()
        return [
            Hit(self._ids[row], row, score, dense_score, lexical.get(row), grade)
            for row, score, dense_score, grade in zip(rows.tolist(), scores.tolist(), dense_scores, grades, strict=True)
        ]
