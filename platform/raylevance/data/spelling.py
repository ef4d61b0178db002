"""Misspelt variants of queries, each with one typing error of a kind that people make.

Mine and Refine (arXiv 2602.17654) adds a misspelt variant of some queries to the training data and keeps the correct
ones. The kinds of errors and their shares are our choice, after Peterson 1986 (Communications of the ACM 29, 633).
"""

import unicodedata
from collections.abc import Iterator
from itertools import groupby
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from raylevance.config import Settings
from raylevance.data.hashing import hash_strings, hash_unit

MISSING, WRONG, EXTRA, SWAPPED = 0.36, 0.29, 0.21, 0.14
"""The shares of errors in which a letter is missing, wrong, doubled or swapped with the one before it."""

NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "xs",
}  # fmt: skip
"""The neighbouring keys of each letter on a QWERTY keyboard."""

VARIANT = "variant"
"""The column of the misspelt variants next to their queries; null for a query without a variant."""

SHORTEST_WORD, SHORTEST_OF_WORD_SCRIPTS = 4, 2
"""The fewest characters of a word that may be misspelt, in scripts of letters and in `WORD_SCRIPTS`."""

WORD_SCRIPTS = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "HANGUL")
"""Scripts whose characters are syllables or words, as the first words of their characters' names in Unicode.

Such a character is doubled or swapped, but never left out or replaced. A word ends where one of these scripts meets a
script of letters.
"""


class SpellingSettings(Settings):
    """How misspelt variants of queries enter the training data."""

    mode: Literal["additive", "in-place", "regularise", "none"] = "additive"
    """Where the variant goes.

    - additive: into a second instance that has the variant as its query.
    - in-place: into the instance, instead of the query.
    - regularise: next to the query. Training draws the vectors of both together (`losses.consistency`).
    - none: nowhere.
    """

    share: float = Field(0.4, ge=0, le=1)
    """The share of queries that have a variant (the paper: 30 to 50 %)."""


def add_misspelt_queries(instances: pa.Table, settings: SpellingSettings, seed: int) -> pa.Table:
    """Return `instances` with misspelt variants: as more rows, another `query`, or a column `VARIANT`.

    Which of the three it is depends on `settings.mode`. Which queries are misspelt, and how, depends on `seed` and the
    query's text alone. A query without a long enough word has no variant.
    """
    queries = instances["query"].to_pylist()
    chosen = hash_unit(instances["query"], seed, "misspelt") < settings.share
    variants = [
        misspell(query, np.random.default_rng(int(bits))) if pick else query
        for query, bits, pick in zip(queries, hash_strings(instances["query"], seed, "slip"), chosen, strict=True)
    ]
    column = instances.column_names.index("query")
    misspelt = instances.set_column(column, "query", pa.array(variants, pa.string()))
    if settings.mode == "in-place":
        return misspelt
    changed = pc.not_equal(misspelt["query"], instances["query"])
    if settings.mode == "regularise":
        variant = pc.if_else(changed, misspelt["query"], pa.scalar(None, pa.string()))
        return instances.append_column(VARIANT, variant)
    return pa.concat_tables([instances, misspelt.filter(changed)])


def misspell(text: str, random: np.random.Generator) -> str:
    """Return `text` with one typing error.

    The error is in a word of at least four letters (two characters of `WORD_SCRIPTS`), but not in its first letter. A
    text without such a word is returned unchanged.
    """
    units = list(_units(text))
    positions = list(_error_positions(units))
    if not positions:
        return text
    start, position = positions[int(random.integers(len(positions)))]
    errors = [(error, weight) for error, weight in _errors_at(units, start, position) if error != text]
    weights = np.array([weight for _, weight in errors])
    return errors[int(random.choice(len(errors), p=weights / weights.sum()))][0]


def _units(text: str) -> Iterator[str]:
    """Yield each character with its combining marks, so that an error never separates an accent from its letter."""
    unit = ""
    for character in text:
        if unit and (unicodedata.category(character).startswith("M") or character == "\u200d"):
            unit += character
            continue
        if unit:
            yield unit
        unit = character
    if unit:
        yield unit


def _error_positions(units: list[str]) -> Iterator[tuple[int, int]]:
    """Yield, for each letter that may be wrong, the start of its word and its own position.

    The first letter of a word and digits are never wrong: people rarely mistype the former, and the latter are exact.
    """
    kinds = [_is_word_script(unit) if unit[0].isalpha() else None for unit in units]
    start = 0
    for kind, word in groupby(kinds):
        end = start + len(list(word))
        shortest = SHORTEST_OF_WORD_SCRIPTS if kind else SHORTEST_WORD
        if kind is not None and end - start >= shortest and len(set(units[start:end])) > 1:
            yield from ((start, position) for position in range(start + 1, end))
        start = end


def _is_word_script(unit: str) -> bool:
    return unicodedata.name(unit[0], "").startswith(WORD_SCRIPTS)


def _errors_at(units: list[str], start: int, position: int) -> Iterator[tuple[str, float]]:
    """Yield the text with each possible error at `position`, in the word that begins at `start`, and its weight."""
    before, unit, after = "".join(units[: position - 1]), units[position], "".join(units[position + 1 :])
    previous = units[position - 1]
    if position - start > 1:
        yield before + unit + previous + after, SWAPPED
    yield before + previous + unit + unit + after, EXTRA
    if _is_word_script(unit):
        return
    yield before + previous + after, MISSING
    plain = unicodedata.normalize("NFD", unit)[0]
    keys = [plain] if plain != unit else list(NEIGHBOURS.get(unit.lower(), ""))
    for key in keys:
        wrong = key.upper() if unit.isupper() else key
        yield before + previous + wrong + after, WRONG / len(keys)
