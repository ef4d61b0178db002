"""The vocabulary as arrays: every meaning of an attribute by number, with its surface forms in each language."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.demo.randomness import Floats, Ints
from raylevance.demo.vocabulary import BRAND_GROUPS, LEAVES, PALETTES, Leaf, Term, terms
from raylevance.demo.vocabulary.language import Language
from raylevance.demo.vocabulary.languages import LANGUAGES, Locale

ATTRIBUTES = ("type", "brand", "colour", "material", "style", "size")
TYPE, BRAND, COLOUR, MATERIAL, STYLE, SIZE = range(len(ATTRIBUTES))

USUAL_FORM_SHARE = 0.65
"""How often merchants use a meaning's first form; our choice, so that words alone do not find everything."""


class Lexicon:
    """The meanings of one attribute, numbered from 0."""

    def __init__(self, meanings: list[Term], title_case: bool) -> None:
        self.meanings = meanings
        self._counts: Ints = np.array([len(forms) for forms in meanings])
        self._firsts: Ints = np.cumsum(self._counts) - self._counts
        forms = [form for meaning in meanings for form in meaning]
        self.forms = pa.array(forms, pa.string())
        self.titles = pa.array([capitalised(form, title_case) for form in forms], pa.string())

    def usual_forms(self, meanings: Ints, uniform: Floats) -> Ints:
        """Indices into `forms` as merchants choose them: the first form mostly, else one of the synonyms."""
        rest = np.clip((uniform - USUAL_FORM_SHARE) / (1 - USUAL_FORM_SHARE), 0, None)
        synonym = 1 + (rest * (self._counts[meanings] - 1)).astype(np.int64)
        is_synonym = (uniform >= USUAL_FORM_SHARE) & (self._counts[meanings] > 1)
        forms: Ints = self._firsts[meanings] + np.where(is_synonym, synonym, 0)
        return forms

    def any_forms(self, meanings: Ints, uniform: Floats) -> Ints:
        """Indices into `forms` as customers choose them: each form alike."""
        return self._firsts[meanings] + (uniform * self._counts[meanings]).astype(np.int64)


class Words(NamedTuple):
    """`lexicons[attribute]`; `values[leaf][attribute]`: the meanings a leaf's products take, from common to rare."""

    lexicons: tuple[Lexicon, ...]
    values: list[list[list[int]]]
    tiers: npt.NDArray[np.int64]
    """Price tier of each brand."""


@cache
def words(locale: Locale = "us") -> Words:
    """The whole vocabulary in the language of `locale`, numbered: the same numbers in every process and language."""
    numbers: list[dict[Term, int]] = [{} for _ in ATTRIBUTES]
    values = [
        [
            [number.setdefault(meaning, len(number)) for meaning in meanings]
            for number, meanings in zip(numbers, _meanings(leaf, PALETTES), strict=True)
        ]
        for leaf in LEAVES
    ]
    tier_of: dict[Term, int] = {(name,): tier for group in BRAND_GROUPS.values() for name, tier in group}
    tiers = np.array([tier_of[brand] for brand in numbers[BRAND]])
    return Words(_lexicons(LANGUAGES[locale], values), values, tiers)


def _lexicons(language: Language, values: list[list[list[int]]]) -> tuple[Lexicon, ...]:
    """The forms in `language` of the meanings numbered in `values`."""
    forms: list[dict[int, Term]] = [{} for _ in ATTRIBUTES]
    for leaf, of_leaf in zip(language.leaves, values, strict=True):
        for known, numbers, meanings in zip(forms, of_leaf, _meanings(leaf, language.palettes), strict=True):
            known.update(zip(numbers, meanings, strict=True))
    return tuple(Lexicon([known[number] for number in range(len(known))], language.title_case) for known in forms)


def leaf_number(name: str) -> int:
    """The index in `LEAVES` of the leaf called `name`."""
    return next(number for number, leaf in enumerate(LEAVES) if leaf.name == name)


def capitalised(text: str, title_case: bool = True) -> str:
    """`text` with the first letter of each word in upper case, or that of the first one alone."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" ", -1 if title_case else 0))


def _meanings(leaf: Leaf, palettes: Mapping[str, str]) -> tuple[list[Term], ...]:
    """A leaf's meanings in the order of `ATTRIBUTES`."""
    brands: list[Term] = [(name,) for name, _ in BRAND_GROUPS[leaf.brands]]
    texts = (leaf.types, palettes[leaf.colours], leaf.materials, leaf.styles, leaf.sizes)
    types, *others = (terms(text) for text in texts)
    return types, brands, *others
