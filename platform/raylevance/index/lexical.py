"""BM25 over texts, through bm25s (arXiv 2407.03618): the lexical side of a search, and the baseline of every report."""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import bm25s
import numpy as np
import numpy.typing as npt
from bm25s.tokenization import Tokenized

from raylevance.errors import RaylevanceError
from raylevance.index import lexical_words
from raylevance.index.lexical_fields import LexicalSettings, index_fields
from raylevance.index.ranking import Rows, Scores, top_k

K1, B, METHOD = 1.5, 0.75, "lucene"

WORDS_FILE = "words.json"
PLAIN, NORMAL_FORM = 1, 2
"""How the words of an index were made: PLAIN in composed form and lower case, without stop words; NORMAL_FORM as
`LexicalIndex` says. An index without `WORDS_FILE` has PLAIN words, and its queries are read in the same way."""

SIDE_FILES = {
    "data_name": "side.data.npy",
    "indices_name": "side.indices.npy",
    "indptr_name": "side.indptr.npy",
    "vocab_name": "side.vocab.json",
    "params_name": "side.params.json",
}


class LexicalIndex:
    """A BM25 index: Lucene's variant with k1 = 1.5 and b = 0.75 over texts, or BM25F over the fields of products.

    Words are those of the `normal_form` of a text, reduced to Snowball's English stems. Runs of Han characters and
    kana, which have no spaces between words, are indexed by overlapping pairs of characters. A model number such as
    HX-720B is also found as one word, hx720b. English stop words count in a query only where it has no other word. A
    word without accents finds those with accents too. One with accents finds words without them only where no text has
    it as it is written (asymmetric search; Unicode's UTS 10, section 8.2).

    Stop words and joined model numbers are in an index at the side, where b = 0: they do not count towards the length
    of a text, as words at one position do not in Lucene, so the scores of other words stay those of BM25.

    Measured on ESCI's sample (title, brand, colour; 40 test queries): nDCG@10 0.730, recall@100 0.816.
    """

    def __init__(self, index: Any, side: Any | None = None, words: int = NORMAL_FORM) -> None:
        """Wrap `index` and the index at its `side`, each a `bm25s.BM25`, and say how their `words` were made."""
        self._index, self._side, self._words = index, side, words
        self._accented: dict[str, list[str]] = {}
        """The stems with accents in the vocabulary, by their stem without accents."""
        for stem in index.vocab_dict if words == NORMAL_FORM else ():
            if not stem.isascii() and (bare := lexical_words.without_accents(stem)) != stem:
                self._accented.setdefault(bare, []).append(stem)

    @classmethod
    def build(cls, texts: Sequence[str]) -> Self:
        """Index `texts`. The row of a text is its position.

        Raises `RaylevanceError` if no text has a word that is not a stop word.
        """
        plain = [lexical_words.plain(text) for text in texts]
        tokens = _sort_vocabulary(lexical_words.stem_tokens(plain))
        if not tokens.vocab:
            raise RaylevanceError(f"there is no word to index in {len(texts)} texts")
        side = _sort_vocabulary(lexical_words.side_tokens(plain))
        return cls(_indexed(tokens, B), _indexed(side, b=0) if side.vocab else None)

    @classmethod
    def build_fields(cls, fields: Mapping[str, Sequence[str]], settings: LexicalSettings) -> Self:
        """Index products by BM25F: the words of each field count by its weight in `settings`.

        `fields` has one text for each product [n] by the name of the field; those that it lacks are not read.

        Raises `RaylevanceError` if no field of a weight above 0 has a word that is not a stop word.
        """
        weights = {name: weight for name, weight in settings.fields if weight and name in fields}
        if not weights:
            raise RaylevanceError(
                f"no field of {', '.join(fields)} has a weight above 0; set lexical.fields of the index"
            )
        plain = {name: [lexical_words.plain(text) for text in fields[name]] for name in weights}
        words = ((weight, lexical_words.stem_tokens(plain[name])) for name, weight in weights.items())
        index = index_fields(words, settings)
        if not index.vocab_dict:
            raise RaylevanceError(f"there is no word to index in the fields {', '.join(weights)}")
        side = _sort_vocabulary(
            lexical_words.side_tokens([" ".join(texts) for texts in zip(*plain.values(), strict=True)])
        )
        return cls(index, _indexed(side, b=0) if side.vocab else None)

    def __len__(self) -> int:
        return int(self._index.scores["num_docs"])

    def search(
        self, queries: Sequence[str], k: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Scores, Rows]:
        """Search for the `k` best rows for each query, only among `allowed` (bool [n]) if given.

        Returns BM25 scores float32 [m, k], best first and the lower row first among equals, and rows int64 [m, k]. Only
        rows that share a word with the query are found; the rest is filled with -inf and -1.
        """
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        for number, (stems, beside) in enumerate(self._lookups(queries)):
            matching_scores, matching_rows = self._matching(stems, beside, allowed)
            scores[number], rows[number] = top_k(matching_scores, matching_rows, k)
        return scores, rows

    def split(self, bounds: list[tuple[int, int]]) -> list[Self]:
        """Return an index of the rows of each of `bounds` (first row, row after the last).

        Scores are those of the whole index, because the words of all its texts have been counted.
        """
        if bounds == [(0, len(self))]:
            return [self]
        parts = []
        for first, stop in bounds:
            side = None if self._side is None else _slice(self._side, first, stop)
            parts.append(type(self)(_slice(self._index, first, stop), side, self._words))
        return parts

    def save(self, folder: Path) -> None:
        """Write the index to `folder`, as NumPy arrays and JSON."""
        self._index.save(folder, show_progress=False)
        if self._side is not None:
            self._side.save(folder, show_progress=False, **SIDE_FILES)
        if self._words != PLAIN:
            (folder / WORDS_FILE).write_text(json.dumps({"words": self._words}), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load an index that `save` wrote, without unpickling anything.

        Raises `RaylevanceError` if a file is missing or damaged, or if a newer raylevance wrote it.
        """
        file, words, side = folder / WORDS_FILE, PLAIN, None
        try:
            index = bm25s.BM25.load(folder, allow_pickle=False)
            if (folder / SIDE_FILES["params_name"]).exists():
                side = bm25s.BM25.load(folder, allow_pickle=False, **SIDE_FILES)
            if file.exists():
                words = json.loads(file.read_text(encoding="utf-8"))["words"]
        except OSError as error:
            raise RaylevanceError(f"{folder}: not a BM25 index: {error}") from None
        except (ValueError, EOFError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise RaylevanceError(f"{folder}: damaged BM25 index; build it again: {error}") from None
        if words not in (PLAIN, NORMAL_FORM):
            raise RaylevanceError(f"{file}: words of kind {words!r} are unknown here; upgrade raylevance")
        return cls(index, side, words)

    def _matching(
        self, stems: list[str], beside: list[str], allowed: npt.NDArray[np.bool_] | None
    ) -> tuple[Scores, Rows]:
        found = [
            index.get_scores_from_ids(ids, weight_mask=allowed)
            for index, words in ((self._index, stems), (self._side, beside))
            if index is not None and (ids := index.get_tokens_ids(words))
        ]
        if not found:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        scores = sum(found[1:], found[0])
        rows = np.flatnonzero(scores > 0)
        return scores[rows], rows

    def _lookups(self, queries: Sequence[str]) -> list[tuple[list[str], list[str]]]:
        """Return for each query the stems to look up, and the words to look up in the index at the side."""
        if self._words == PLAIN:
            return [(stems, []) for stems in lexical_words.stems(queries)]
        plain = [lexical_words.plain(query) for query in queries]
        joined = [" ".join([text, *lexical_words.model_numbers(text)]) for text in plain]
        return [
            (
                [variant for stem in stems for variant in self._variants(stem)],
                lexical_words.side_lookups(text, bool(stems)),
            )
            for text, stems in zip(plain, lexical_words.stems(joined), strict=True)
        ]

    def _variants(self, stem: str) -> list[str]:
        """Return the stems of the vocabulary that a stem of a query finds."""
        variants = [stem, *self._accented.get(stem, ())]
        if stem.isascii() or len(variants) > 1 or stem in self._index.vocab_dict:
            return variants
        bare = lexical_words.without_accents(stem)
        return [bare, *self._accented.get(bare, ())]


def _indexed(tokens: Tokenized, b: float) -> Any:
    index = bm25s.BM25(k1=K1, b=b, method=METHOD)
    index.index(tokens, create_empty_token=False, show_progress=False)
    return index


def _slice(index: Any, first: int, stop: int) -> Any:
    """Return a BM25 index of the rows from `first` up to `stop`, with the same vocabulary and scores."""
    scores = index.scores
    present = (scores["indices"] >= first) & (scores["indices"] < stop)
    kept_before = np.concatenate([[0], np.cumsum(present)])
    part = copy(index)
    part.scores = {
        "data": scores["data"][present],
        "indices": scores["indices"][present] - np.int32(first),
        "indptr": kept_before[scores["indptr"]],
        "num_docs": stop - first,
    }
    return part


def _sort_vocabulary(tokens: Tokenized) -> Tokenized:
    """Number the words alphabetically. bm25s numbers them in the order of a set, which differs from run to run."""
    vocabulary = {word: number for number, word in enumerate(sorted(tokens.vocab))}
    renumbered = {number: vocabulary[word] for word, number in tokens.vocab.items()}
    return Tokenized(ids=[[renumbered[number] for number in text] for text in tokens.ids], vocab=vocabulary)
