"""Texts in the disguises that exports and web pages give them, for tests of the normal form."""

import html.entities
import unicodedata
from collections.abc import Sequence

from hypothesis import strategies as st

INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202c\u2066\u2069\u061c"


def _encoded(letter: str) -> list[str]:
    name = html.entities.codepoint2name.get(ord(letter))
    numbers = [f"&#{ord(letter)};", f"&#x{ord(letter):x};", f"&amp;#{ord(letter)};"]
    return [*numbers, f"&{name};", f"&amp;{name};"] if name else numbers


def _forms(letter: str) -> list[str]:
    """Return the ways in which a character is written and means the same."""
    wide = chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter
    return [letter, wide, letter.swapcase(), unicodedata.normalize("NFD", letter), *_encoded(letter)]


@st.composite
def disguised(draw: st.DrawFn, words: Sequence[str]) -> tuple[str, str]:
    """Draw one of `words`, and the same word with other characters that mean the same and invisible ones between."""
    word = draw(st.sampled_from(words))
    pieces = [draw(st.sampled_from(_forms(letter))) + draw(st.text(INVISIBLE, max_size=2)) for letter in word]
    return word, draw(st.text(INVISIBLE, max_size=2)) + "".join(pieces)
