"""The words that BM25 indexes and looks up: stems, and beside them stop words and model numbers written as one."""

import re
from collections.abc import Sequence

import bm25s
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from bm25s.tokenization import Tokenized

from raylevance.data import normal_form
from raylevance.data.words import LETTER, WORD, with_character_pairs

STOP_WORDS = frozenset(STOPWORDS_EN)
COMPOUND = re.compile(rf"{LETTER}+(?:[-‐–]{LETTER}+)+")
RANGE = re.compile(r"\d+[-‐–]\d")


def plain(text: str) -> str:
    """Return the normal form of `text`, with an underscore as a hyphen."""
    return normal_form.normal_form(text).replace("_", "-")


def stem_tokens(texts: Sequence[str]) -> Tokenized:
    """Return the numbers of the stems of each text, without stop words, and the number of each stem.

    Threads cannot share a PyStemmer stemmer, so each call makes its own.
    """
    return bm25s.tokenize(
        [with_character_pairs(text) for text in texts],
        token_pattern=f"{LETTER}+",
        stopwords="en",
        stemmer=Stemmer.Stemmer("english"),
        show_progress=False,
    )


def stems(texts: Sequence[str]) -> list[list[str]]:
    """Return the stems of each text, without stop words."""
    tokens = stem_tokens(texts)
    stem = {number: word for word, number in tokens.vocab.items()}
    return [[stem[number] for number in text] for text in tokens.ids]


def side_tokens(texts: Sequence[str]) -> Tokenized:
    """Return the numbers of the stop words and model numbers of each `plain` text, and the number of each."""
    numbers: dict[str, int] = {}
    ids = [[numbers.setdefault(word, len(numbers)) for word in _side_words(text)] for text in texts]
    return Tokenized(ids=ids, vocab=numbers)


def model_numbers(text: str) -> list[str]:
    """Return as one word each word of letters and digits with hyphens in a `plain` text: hx720b of hx-720b.

    A range, such as 5-10cm, is none.
    """
    return [
        joined
        for compound in COMPOUND.findall(text)
        if not RANGE.match(compound) and _is_mixed(joined := re.sub("[-‐–]", "", compound))
    ]


def side_lookups(text: str, has_stems: bool) -> list[str]:
    """Return the words of a `plain` query to look up among the `side_tokens`; stop words only without other words."""
    found = WORD.findall(text)
    return [word for word in found if word not in STOP_WORDS] + model_numbers(text) if has_stems else found


def without_accents(stem: str) -> str:
    """Return the stem of `stem` without the accents of European scripts."""
    bare = normal_form.without_accents(stem)
    return bare if bare == stem else str(Stemmer.Stemmer("english").stemWord(bare))


def _side_words(text: str) -> list[str]:
    return [word for word in WORD.findall(text) if word in STOP_WORDS] + model_numbers(text)


def _is_mixed(word: str) -> bool:
    return any(map(str.isdigit, word)) and any(map(str.isalpha, word))
