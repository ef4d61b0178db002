"""The languages of the shop, by locale."""

from typing import Any, Literal

from raylevance.demo.vocabulary import LEAVES, NEEDS, PALETTES, TIERS, japanese, phrases, spanish
from raylevance.demo.vocabulary.dictionary import Dictionary, translate
from raylevance.demo.vocabulary.language import Language
from raylevance.demo.vocabulary.needs import NEED_FRAMES

Locale = Literal["us", "es", "jp"]
"""As ESCI names its locales: English, Spanish and Japanese."""

ENGLISH = Language(
    leaves=LEAVES,
    palettes=PALETTES,
    needs=tuple(NEEDS),
    tiers=TIERS,
    titles=phrases.TITLES,
    descriptions=phrases.DESCRIPTIONS,
    bullets=phrases.BULLETS,
    need_frames=NEED_FRAMES,
    long_tail_frames=phrases.LONG_TAIL_FRAMES,
    phrasings=phrases.PHRASINGS,
    after_the_type=phrases.AFTER_THE_TYPE,
    title_case=True,
)


def _translated(dictionary: Dictionary, needs: dict[str, str], phrases: Any, joint: str) -> Language:
    return Language(
        leaves=tuple(dictionary.leaf(leaf) for leaf in LEAVES),
        palettes={name: translate(text, dictionary.colours) for name, text in PALETTES.items()},
        needs=tuple(needs[need] for need in NEEDS),
        tiers=phrases.TIERS,
        titles=phrases.TITLES,
        descriptions=phrases.DESCRIPTIONS,
        bullets=phrases.BULLETS,
        need_frames=phrases.NEED_FRAMES,
        long_tail_frames=phrases.LONG_TAIL_FRAMES,
        phrasings=phrases.PHRASINGS,
        joint=joint,
    )


LANGUAGES: dict[Locale, Language] = {
    "us": ENGLISH,
    "es": _translated(spanish.DICTIONARY, spanish.NEEDS, spanish.phrases, joint=" "),
    "jp": _translated(japanese.DICTIONARY, japanese.NEEDS, japanese.phrases, joint=""),
}
