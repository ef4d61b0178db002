"""BM25F: the words of a product's fields counted with a weight each, as an index that bm25s searches."""

from collections.abc import Iterable
from typing import Any

import bm25s
import numpy as np
import scipy.sparse as sp
from bm25s.tokenization import Tokenized
from pydantic import Field, NonNegativeFloat, PositiveFloat

from raylevance.config import Settings


class FieldWeights(Settings):
    """How much a word counts in each field of a product. A field of weight 0 is not read."""

    title: NonNegativeFloat = 5
    brand: NonNegativeFloat = 3
    color: NonNegativeFloat = 3
    category: NonNegativeFloat = 3
    bullets: NonNegativeFloat = 1
    description: NonNegativeFloat = 0.5


class LexicalSettings(Settings):
    """How BM25F scores the words of a product. The defaults are our choice (docs/decisions/0018-hybrid.md)."""

    fields: FieldWeights = FieldWeights()
    """The weight of each field."""
    k1: PositiveFloat = 1.0
    """How soon a word that is repeated stops counting more. Weights are counts too: those of twice the size want twice
    the k1."""
    b: float = Field(default=0.5, ge=0, le=1)
    """How far the length of a field counts against its words: 0 not at all, 1 in proportion."""


def index_fields(texts: Iterable[tuple[float, Tokenized]], settings: LexicalSettings) -> Any:
    """Return a `bm25s.BM25` whose score of a query is the sum over its words of

        idf(word) * tf / (k1 + tf)
        with tf = sum over fields of weight * count / (1 - b + b * length / mean length)

    and Lucene's idf, log(1 + (texts - found + 1/2) / (found + 1/2)), where `found` texts have the word in any field.

    `texts` gives for each field its weight, above 0, and the words of each of its n texts. One field at a time is in
    memory as words. Source: Robertson and Zaragoza 2009 (The Probabilistic Relevance Framework: BM25 and Beyond),
    section 3.6, with one b for all fields.
    """
    places: dict[str, int] = {}
    weighed = [weight * _by_length(_counts(words, places), settings.b) for weight, words in texts]
    # A field that was counted before the last one has fewer columns than there are words by now.
    for counts in weighed:
        counts.resize((counts.shape[0], len(places)))
    in_order = sorted(places)
    total = sum(weighed[1:], weighed[0]).tocsc()[:, [places[word] for word in in_order]]
    total.sort_indices()
    count, found = total.shape[0], np.diff(total.indptr)
    idf = np.log1p((count - found + 0.5) / (found + 0.5))
    index = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene")
    index.scores = {
        "data": (np.repeat(idf, found) * total.data / (settings.k1 + total.data)).astype(np.float32),
        "indices": total.indices.astype(np.int32),
        "indptr": total.indptr.astype(np.int64),
        "num_docs": count,
    }
    index.vocab_dict = {word: place for place, word in enumerate(in_order)}
    index.unique_token_ids_set = set(range(len(in_order)))
    index.nonoccurrence_array = None
    return index


def _counts(words: Tokenized, places: dict[str, int]) -> Any:
    """Return how often each word is in each text, sparse float64 [n, words so far], and add new words to `places`."""
    column = np.zeros(len(words.vocab), np.int32)
    for word, number in words.vocab.items():
        column[number] = places.setdefault(word, len(places))
    lengths = np.array([len(text) for text in words.ids])
    columns = column[np.fromiter((number for text in words.ids for number in text), np.int32, lengths.sum())]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    counts = sp.csr_array((np.ones(len(columns)), columns, ends), shape=(len(lengths), len(places)))
    counts.sum_duplicates()
    return counts


def _by_length(counts: Any, b: float) -> Any:
    """Divide the counts of each text by 1 - b + b * length / mean length."""
    lengths = counts.sum(axis=1)
    relative = lengths / lengths.mean() if lengths.any() else lengths
    divisors = 1 - b + b * relative
    # A text without a word has no count to divide.
    return sp.diags_array(np.where(lengths > 0, 1 / np.where(lengths > 0, divisors, 1), 0)).tocsr() @ counts
