"""Misspelt variants of queries: one slip of the hand each, of the kinds and as often as people make them.

Mine and Refine (arXiv 2602.17654) adds a variant of some queries to the training data and keeps the
clean ones. The slips are our choice: shares of single errors from Peterson 1986 (Communications of the ACM 29, 633).
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
from raylevance.data.rows import FAULT

MISSING, WRONG, EXTRA, SWAPPED = 0.36, 0.29, 0.21, 0.14

NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "xs",
}  # fmt: skip
"""Keys beside each letter on a QWERTY keyboard."""

VARIANT = "variant"
"""Column of the variants beside their queries, null where there is none."""

SHORTEST_WORD, SHORTEST_OF_WORD_SCRIPTS = 4, 2
"""Characters of a word that may slip: a syllable says as much as two or three letters."""

WORD_SCRIPTS = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "HANGUL")
"""Scripts whose characters are syllables or words: one is doubled or swapped, never lost or replaced by another.

As Unicode begins the names of their characters. A word ends where one of these scripts meets a script of letters.
"""


class SpellingSettings(Settings):
    """How variants enter the training data; `share`: of the queries that have one (the paper: 30 to 50 %).

    additive: the instance once more with the variant as its query. in-place: the variant instead of the query.
    regularise: the variant beside the query, whose vector its own is drawn to (`losses.consistency`).
    """

    mode: Literal["additive", "in-place", "regularise", "none"] = "additive"
    share: float = Field(0.4, ge=0, le=1)


def augment(instances: pa.Table, settings: SpellingSettings, seed: int) -> pa.Table:
    """`instances` with variants as `settings` say: more rows (additive), or another `query`, or `VARIANT`.

    Which queries, and the variant, depend on `seed` and the query's text alone. A query that offers no slip has none,
    nor has a row with a fault (column `rows.FAULT`).
    """
    queries = instances["query"].to_pylist()
    chosen = hash_unit(instances["query"], seed, "misspelt") < settings.share
    variants = [
        misspell(query, np.random.default_rng(int(bits))) if pick else query
        for query, bits, pick in zip(queries, hash_strings(instances["query"], seed, "slip"), chosen, strict=True)
    ]
    place = instances.column_names.index("query")
    misspelt = instances.set_column(place, "query", pa.array(variants, pa.string()))
    if settings.mode == "in-place":
        return misspelt
    changed = pc.not_equal(misspelt["query"], instances["query"])
    if FAULT in instances.column_names:
        changed = pc.and_(changed, pc.is_null(instances[FAULT]))
    if settings.mode == "regularise":
        beside = pc.if_else(changed, misspelt["query"], pa.scalar(None, pa.string()))
        return instances.append_column(VARIANT, beside)
    return pa.concat_tables([instances, misspelt.filter(changed)])


def misspell(text: str, random: np.random.Generator) -> str:
    """`text` with one slip, in a word of four letters (two syllables) or more and not at its start, if there is one."""
    units = list(_units(text))
    places = list(_places(units))
    if not places:
        return text
    start, place = places[int(random.integers(len(places)))]
    slips = [(slip, weight) for slip, weight in _slips(units, start, place) if slip != text]
    weights = np.array([weight for _, weight in slips])
    return slips[int(random.choice(len(slips), p=weights / weights.sum()))][0]


def _units(text: str) -> Iterator[str]:
    """Characters with the marks that belong to them: a slip never tears an accent from its letter."""
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


def _places(units: list[str]) -> Iterator[tuple[int, int]]:
    """Start of the word and place of each letter that may slip: people seldom miss the first, and a number is exact."""
    kinds = [_is_word_script(unit) if unit[0].isalpha() else None for unit in units]
    start = 0
    for kind, word in groupby(kinds):
        end = start + len(list(word))
        shortest = SHORTEST_OF_WORD_SCRIPTS if kind else SHORTEST_WORD
        if kind is not None and end - start >= shortest and len(set(units[start:end])) > 1:
            yield from ((start, place) for place in range(start + 1, end))
        start = end


def _is_word_script(unit: str) -> bool:
    return unicodedata.name(unit[0], "").startswith(WORD_SCRIPTS)


def _slips(units: list[str], start: int, place: int) -> Iterator[tuple[str, float]]:
    """Each text that one slip at `place`, in the word from `start`, makes, with its weight."""
    before, unit, after = "".join(units[: place - 1]), units[place], "".join(units[place + 1 :])
    previous = units[place - 1]
    if place - start > 1:
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
