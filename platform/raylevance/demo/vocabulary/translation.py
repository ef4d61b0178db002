"""The shop in another language, from the English vocabulary and a file of translations."""

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.demo.vocabulary.schema import (
    NUMBER,
    EnglishVocabulary,
    Language,
    Leaf,
    Meaning,
    Meanings,
    Translation,
    read_vocabulary,
)
from raylevance.errors import RaylevanceError, nearest

_DIGITS = re.compile(r"\d+(?:\.\d+)?")


def translate(english: EnglishVocabulary, file: Path) -> Language:
    """Return the shop in the language of `file` (YAML, see `Translation`).

    Raises `RaylevanceError`, one line that names the file and the entry, where an English word has no translation or a
    translation has no English word.
    """
    translation = read_vocabulary(Translation, file)
    try:
        _check_complete(english, translation)
    except ValueError as error:
        raise RaylevanceError(f"{file}: {error}") from None
    return Language(
        leaves=tuple(_translate_leaf(leaf, translation) for leaf in english.leaves.values()),
        palettes={name: _translate(colours, translation.colours) for name, colours in english.palettes.items()},
        needs=tuple(translation.needs[need] for need in english.needs),
        price_tiers=tuple(translation.price_tiers[tier] for tier in english.price_tiers),
        templates=translation.templates,
    )


def _translate_leaf(leaf: Leaf, translation: Translation) -> Leaf:
    department, section, name = leaf.path
    translated = [
        translation.departments[department].name,
        translation.sections[section],
        translation.leaves[name].name,
    ]
    return Leaf(
        category=CATEGORY_SEPARATOR.join(translated),
        brands=leaf.brands,
        types=_translate(leaf.types, translation.leaves[name].types),
        colours=leaf.colours,
        materials=_translate(leaf.materials, translation.materials),
        styles=_translate(leaf.styles, translation.styles),
        sizes=_translate(leaf.sizes, translation.sizes),
        uses=translation.departments[department].uses,
        complements=tuple(translation.leaves[complement].name for complement in leaf.complements),
    )


def _translate(meanings: Meanings, table: Mapping[str, Meaning]) -> Meanings:
    return tuple(_translate_meaning(meaning, table) for meaning in meanings)


def _translate_meaning(meaning: Meaning, table: Mapping[str, Meaning]) -> Meaning:
    """Return the forms that `table` has for `meaning`, with its numbers in place of `NUMBER`."""
    forms = next(table[key] for key in _keys(meaning) if key in table)
    numbers = _DIGITS.findall(meaning[0])
    return tuple(_with_numbers(form, numbers) for form in forms)


def _with_numbers(form: str, numbers: list[str]) -> str:
    for number in numbers:
        form = form.replace(NUMBER, number, 1)
    return form


def _keys(meaning: Meaning) -> tuple[str, str, str]:
    """Return the keys that a table may have for `meaning`; an earlier one takes precedence."""
    return "/".join(meaning), meaning[0], _DIGITS.sub(NUMBER, meaning[0])


def _check_complete(english: EnglishVocabulary, translation: Translation) -> None:
    """Raise `ValueError` where `translation` lacks a word of `english` or has another word."""
    leaves = list(english.leaves.values())
    departments, sections, names = zip(*(leaf.path for leaf in leaves), strict=True)
    _check_table("departments", translation.departments, _meanings(departments))
    _check_table("sections", translation.sections, _meanings(sections))
    _check_table("leaves", translation.leaves, _meanings(names))
    for leaf in leaves:
        _check_table(f"leaves: {leaf.name}: types", translation.leaves[leaf.name].types, leaf.types)
    _check_table("colours", translation.colours, chain.from_iterable(english.palettes.values()))
    _check_table("materials", translation.materials, chain.from_iterable(leaf.materials for leaf in leaves))
    _check_table("styles", translation.styles, chain.from_iterable(leaf.styles for leaf in leaves))
    _check_table("sizes", translation.sizes, chain.from_iterable(leaf.sizes for leaf in leaves))
    _check_table("needs", translation.needs, _meanings(english.needs))
    _check_table("price_tiers", translation.price_tiers, _meanings(english.price_tiers))


def _meanings(words: Iterable[str]) -> Meanings:
    return tuple((word,) for word in words)


def _check_table(place: str, table: Mapping[str, object], meanings: Iterable[Meaning]) -> None:
    known: set[str] = set()
    for meaning in meanings:
        keys = _keys(meaning)
        if table.keys().isdisjoint(keys):
            raise ValueError(f"{place}: {'/'.join(meaning)!r} has no translation")
        known.update(keys)
    for word in table:
        if word not in known:
            raise ValueError(f"{place}: {word!r} is not an English word of the shop; {nearest(word, list(known))}")
