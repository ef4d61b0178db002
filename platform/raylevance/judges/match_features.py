"""Features of a query and a product's text, for the regression judge: words, brand, category and vectors.

Each is a number that a person can check. They read the text alone, with the labels of the template `ProductText`, and
facts of the catalogue that are kept with the judge, so a pair has the same features whatever it is asked with.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import Stemmer
from safetensors.numpy import load_file, save_file

from raylevance.data.hashing import hash_unit
from raylevance.data.negation import excluded_stems, exclusions
from raylevance.data.words import words
from raylevance.models.encoder import Encoder

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

Feature = Literal["cosine", "coverage", "feedback", "category", "other_brand", "exclusion", "excluded"]
"""The features of `MatchFeatures`, by name."""

FREQUENCIES, CATALOGUE = "document_frequencies.json", "catalogue.safetensors"
BRAND = re.compile(r"(?:^|\. )Brand: (.*?)(?:\. |$)")
CATEGORY = re.compile(r"(?:^|\. )Category: (.*?)(?:\. |$)")
LONGEST_BRAND = 3
"""The most words of a brand that is looked for in queries."""
COMMON_BRAND = 20
"""A brand of one word that more than so many times as many texts have as have it for a brand is an ordinary word."""
FEEDBACK_PRODUCTS, CATEGORY_PRODUCTS = 5, 20
"""How many of the nearest products stand for what a query means (our choice, from training queries)."""
MOST_PRODUCTS = 20_000
"""The most products of the catalogue that are kept for this, drawn by hash: 15 MB for a MiniLM."""


class CatalogueFacts(NamedTuple):
    """Facts of a catalogue that the features read."""

    texts: int
    """The number of its product texts."""
    frequencies: dict[str, int]
    """The number of texts with each stem."""
    brands: frozenset[tuple[str, ...]] = frozenset()
    """The brands, as stems."""
    vectors: Vectors | None = None
    """The unit vectors of at most `MOST_PRODUCTS` texts, float32 [r, d]."""
    categories: tuple[str, ...] = ()
    """The category of these texts [r]."""

    @classmethod
    def read(cls, texts: Sequence[str], encoder: Encoder, progress: Callable[[int], object] | None = None) -> Self:
        """Read the facts from the product texts of a catalogue."""
        stemmed = [stem_list(text) for text in texts]
        frequencies = Counter(stem for stems_ in stemmed for stem in set(stems_))
        named = Counter(tuple(stem_list(brand)) for text in texts if (brand := _found(BRAND, text)))
        brands = frozenset(brand for brand, count in named.items() if _is_brand(brand, count, frequencies))
        kept = np.sort(np.argsort(hash_unit(pa.array(texts, pa.large_string()), 0), kind="stable")[:MOST_PRODUCTS])
        vectors = encoder.encode_items([texts[row] for row in kept], progress=progress)
        categories = tuple(_found(CATEGORY, texts[row]) for row in kept)
        return cls(len(texts), dict(frequencies), brands, vectors.astype(np.float32), categories)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the facts that `save` wrote. A folder of an older version has frequencies alone."""
        counts = json.loads((folder / FREQUENCIES).read_text(encoding="utf-8"))
        vectors = load_file(folder / CATALOGUE)["vectors"].astype(np.float32) if "categories" in counts else None
        brands = frozenset(map(tuple, counts.get("brands", ())))
        return cls(counts["texts"], counts["stems"], brands, vectors, tuple(counts.get("categories", ())))

    def save(self, folder: Path) -> None:
        """Write the facts to `folder`, as JSON and safetensors."""
        counts: dict[str, Any] = {"texts": self.texts, "stems": self.frequencies}
        if self.vectors is not None:
            counts |= {"brands": sorted(map(list, self.brands)), "categories": list(self.categories)}
            save_file({"vectors": self.vectors}, folder / CATALOGUE)
        (folder / FREQUENCIES).write_text(json.dumps(counts, ensure_ascii=False), encoding="utf-8")


class MatchFeatures:
    """Computes the features of pairs of a query and a product text."""

    def __init__(self, encoder: Encoder, catalogue: CatalogueFacts, texts: Sequence[str] = ()) -> None:
        """Combine an encoder with the facts of a catalogue that its vectors are from.

        `texts` are those of `catalogue.vectors`, row by row, where they are known; they are not encoded again.
        """
        self.encoder, self.catalogue = encoder, catalogue
        self._row_of = {text: row for row, text in enumerate(texts)}

    def __call__(
        self,
        queries: Sequence[str],
        texts: Sequence[str],
        names: Sequence[Feature],
        progress: Callable[[int], object] | None = None,
    ) -> Floats:
        """Return the features `names` of n pairs, float64 [n, f].

        - cosine: of the query's vector and the text's.
        - coverage: the share of the query's stems that are in the text, weighted by BM25's idf.
        - feedback: the cosine of the text's vector and the mean vector of the query's nearest products, as in
          pseudo-relevance feedback (Rocchio 1971).
        - category: the share of the query's nearest products, weighted by cosine, that have the text's category.
        - other_brand: 1 where the query names a brand of the catalogue and the text has none of those it names.
        - exclusion: `exclusions` of the text, for the words that the query does not want ("lamp without cord").
        - excluded: like coverage, of these words. Judges that were fitted before exclusion read it.

        The last five are our choice. `progress` is called with the number of texts encoded since its last call.
        """
        distinct_queries, query = np.unique(np.asarray(queries, dtype=object), return_inverse=True)
        distinct_texts, text = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        u = self.encoder.encode_queries(list(distinct_queries))
        v = self._item_vectors(list(distinct_texts), progress)
        asked = [self._asked(query, vector) for query, vector in zip(distinct_queries, u, strict=True)]
        stems_of = [stems(text) for text in distinct_texts]
        category = [_found(CATEGORY, text) for text in distinct_texts]
        found: dict[Feature, Any] = {
            "cosine": lambda q, t: u[q] @ v[t],
            "coverage": lambda q, t: self._share(asked[q].stems, stems_of[t]),
            "feedback": lambda q, t: asked[q].feedback @ v[t],
            "category": lambda q, t: asked[q].categories.get(category[t], 0.0),
            "other_brand": lambda q, t: float(
                bool(asked[q].brands) and not any(stems_of[t].issuperset(b) for b in asked[q].brands)
            ),
            "exclusion": lambda q, t: exclusions(asked[q].excluded, [str(distinct_texts[t])])[0],
            "excluded": lambda q, t: self._share(asked[q].excluded, stems_of[t]),
        }
        rows = [[float(found[name](q, t)) for name in names] for q, t in zip(query, text, strict=True)]
        return np.array(rows, np.float64).reshape(len(queries), len(names))

    def _item_vectors(self, texts: list[str], progress: Callable[[int], object] | None) -> Vectors:
        new = [text for text in texts if text not in self._row_of]
        encoded = dict(zip(new, self.encoder.encode_items(new, progress=progress), strict=True)) if new else {}
        known = self.catalogue.vectors
        rows = [encoded[text] if known is None or text in encoded else known[self._row_of[text]] for text in texts]
        return np.array(rows, np.float32)

    def _asked(self, query: str, vector: Vectors) -> "_Asked":
        """Read a query once for all of its pairs."""
        stemmed = stem_list(query)
        feedback, categories = vector, dict[str, float]()
        if self.catalogue.vectors is not None and len(self.catalogue.vectors):
            cosines = self.catalogue.vectors @ vector
            nearest = np.argsort(-cosines, kind="stable")[:CATEGORY_PRODUCTS]
            mean = self.catalogue.vectors[nearest[:FEEDBACK_PRODUCTS]].mean(axis=0)
            feedback = mean / max(float(np.linalg.norm(mean)), 1e-12)
            weights = np.maximum(cosines[nearest], 0).astype(float)
            for row, weight in zip(nearest, weights / max(weights.sum(), 1e-12), strict=True):
                name = self.catalogue.categories[row]
                categories[name] = categories.get(name, 0.0) + float(weight)
        runs = (
            tuple(stemmed[start : start + length])
            for length in range(1, LONGEST_BRAND + 1)
            for start in range(len(stemmed))
        )
        brands = frozenset(run for run in runs if run in self.catalogue.brands)
        return _Asked(frozenset(stemmed), excluded_stems(query), brands, feedback, categories)

    def _share(self, asked: Iterable[str], text: frozenset[str]) -> float:
        """Return the share of the stems `asked` that are in the text, weighted by BM25's idf; 0 without stems."""
        asked = frozenset(asked)
        total = math.fsum(map(self._idf, asked))
        return math.fsum(map(self._idf, asked & text)) / total if total else 0.0

    def _idf(self, stem: str) -> float:
        frequency = self.catalogue.frequencies.get(stem, 0)
        return math.log(1 + (self.catalogue.texts - frequency + 0.5) / (frequency + 0.5))


class _Asked(NamedTuple):
    stems: frozenset[str]
    excluded: frozenset[str]
    brands: frozenset[tuple[str, ...]]
    feedback: Vectors
    categories: dict[str, float]


def stems(text: str) -> frozenset[str]:
    """Return the distinct words of `text` in lower case, as stems by Snowball's English stemmer."""
    return frozenset(stem_list(text))


def stem_list(text: str) -> list[str]:
    """Return the words of `text` in lower case and in their order, as stems by Snowball's English stemmer."""
    stemmed: list[str] = Stemmer.Stemmer("english").stemWords(words(text))
    return stemmed


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _is_brand(brand: tuple[str, ...], count: int, frequencies: Counter[str]) -> bool:
    if not 1 <= len(brand) <= LONGEST_BRAND:
        return False
    return len(brand) > 1 or frequencies[brand[0]] <= COMMON_BRAND * count
