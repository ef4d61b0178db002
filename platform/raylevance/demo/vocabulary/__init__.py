"""The words of the demo shop, all invented.

`english.yaml` defines the shop and is read when this package is imported. The other YAML files translate it and are
read when they are first needed. A new language needs a file here and an entry in `Locale` and in `_TRANSLATIONS`.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from raylevance.demo.vocabulary.schema import EnglishVocabulary, Language, read_vocabulary
from raylevance.demo.vocabulary.translation import translate

Locale = Literal["us", "es", "jp"]
"""The locales of the shop, as ESCI names them: English, Spanish and Japanese."""

FOLDER = Path(__file__).parent
_TRANSLATIONS: dict[Locale, str] = {"es": "spanish.yaml", "jp": "japanese.yaml"}

ENGLISH = read_vocabulary(EnglishVocabulary, FOLDER / "english.yaml")
LEAVES = tuple(ENGLISH.leaves.values())
"""The leaf categories. Their indices are the leaf numbers that other modules use."""


@cache
def language(locale: Locale) -> Language:
    """Return the shop in the language of `locale`.

    Raises `RaylevanceError` if a file of translations is incomplete or invalid.
    """
    if locale == "us":
        return Language(LEAVES, ENGLISH.palettes, tuple(ENGLISH.needs), ENGLISH.price_tiers, ENGLISH.templates)
    return translate(ENGLISH, FOLDER / _TRANSLATIONS[locale])


__all__ = ["ENGLISH", "FOLDER", "LEAVES", "Locale", "language"]
