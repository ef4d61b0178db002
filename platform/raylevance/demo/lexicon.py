"""The vocabulary as arrays: the numbered meanings of each attribute, with their surface forms in each language."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.demo.randomness import Floats, Ints
from raylevance.demo.vocabulary import ENGLISH, LEAVES, Locale, language
from raylevance.demo.vocabulary.schema import ATTRIBUTES, Language, Leaf, Meaning, Meanings

TYPE, BRAND, COLOUR, MATERIAL, STYLE, SIZE = range(len(ATTRIBUTES))

USUAL_FORM_SHARE = 0.65
"""How often merchants use the first form of a meaning; our choice, so that matching words do not find everything."""


class Lexicon:
    """The meanings of one attribute, numbered from 0."""

    def __init__(self, meanings: list[Meaning], title_case: bool) -> None:
        self.meanings = meanings
        self._counts: Ints = np.array([len(forms) for forms in meanings])
        self._firsts: Ints = np.cumsum(self._counts) - self._counts
        forms = [form for meaning in meanings for form in meaning]
        self.forms = pa.array(forms, pa.string())
        self.titles = pa.array([capitalised(form, title_case) for form in forms], pa.string())

    def usual_forms(self, meanings: Ints, uniform: Floats) -> Ints:
        """Return indices into `forms` as merchants choose them: mostly the first form, else one of the synonyms.

        `uniform`: draws in [0, 1), one per meaning.
        """
        rest = np.clip((uniform - USUAL_FORM_SHARE) / (1 - USUAL_FORM_SHARE), 0, None)
        synonym = 1 + (rest * (self._counts[meanings] - 1)).astype(np.int64)
        is_synonym = (uniform >= USUAL_FORM_SHARE) & (self._counts[meanings] > 1)
        forms: Ints = self._firsts[meanings] + np.where(is_synonym, synonym, 0)
        return forms

    def any_forms(self, meanings: Ints, uniform: Floats) -> Ints:
        """Return indices into `forms` as customers choose them: each form is equally likely.

        `uniform`: draws in [0, 1), one per meaning.
        """
        return self._firsts[meanings] + (uniform * self._counts[meanings]).astype(np.int64)


class WordTables(NamedTuple):
    """The numbered meanings of all attributes."""

    lexicons: tuple[Lexicon, ...]
    """One lexicon for each of `ATTRIBUTES`."""
    values: list[list[list[int]]]
    """By leaf and attribute, the meanings that the leaf's products have, from common to rare."""
    tiers: npt.NDArray[np.int64]
    """The price tier of each brand."""


@cache
def word_tables(locale: Locale = "us") -> WordTables:
    """Return the vocabulary in the language of `locale`. The numbers are the same in every process and language."""
    numbers: list[dict[Meaning, int]] = [{} for _ in ATTRIBUTES]
    values = [
        [
            [number.setdefault(meaning, len(number)) for meaning in meanings]
            for number, meanings in zip(numbers, _meanings(leaf, ENGLISH.palettes), strict=True)
        ]
        for leaf in LEAVES
    ]
    tier_of = {
        brand: ENGLISH.price_tiers.index(tier) for group in ENGLISH.brands.values() for brand, tier in group.items()
    }
    tiers = np.array([tier_of[brand] for (brand,) in numbers[BRAND]])
    return WordTables(_lexicons(language(locale), values), values, tiers)


def _lexicons(vocabulary: Language, values: list[list[list[int]]]) -> tuple[Lexicon, ...]:
    """Return the lexicons in one language of the meanings numbered in `values`."""
    forms: list[dict[int, Meaning]] = [{} for _ in ATTRIBUTES]
    for leaf, of_leaf in zip(vocabulary.leaves, values, strict=True):
        for known, numbers, meanings in zip(forms, of_leaf, _meanings(leaf, vocabulary.palettes), strict=True):
            known.update(zip(numbers, meanings, strict=True))
    title_case = vocabulary.templates.title_case
    return tuple(Lexicon([known[number] for number in range(len(known))], title_case) for known in forms)


def leaf_number(name: str) -> int:
    """Return the index in `LEAVES` of the leaf called `name`."""
    return next(number for number, leaf in enumerate(LEAVES) if leaf.name == name)


def capitalised(text: str, title_case: bool = True) -> str:
    """Return `text` with the first letter of each word, or of the first word only, in upper case."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" ", -1 if title_case else 0))


def _meanings(leaf: Leaf, palettes: Mapping[str, Meanings]) -> tuple[Sequence[Meaning], ...]:
    """Return the meanings of a leaf in the order of `ATTRIBUTES`."""
    brands = [(brand,) for brand in ENGLISH.brands[leaf.brands]]
    return leaf.types, brands, palettes[leaf.colours], leaf.materials, leaf.styles, leaf.sizes
