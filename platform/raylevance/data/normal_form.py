"""The normal form of a text, by which queries are compared and words are searched, and the clean text models read."""

import html
import re
import unicodedata
from collections.abc import Callable
from html.entities import html5

import pyarrow as pa
import pyarrow.compute as pc

ENTITY = r"&(?:#[0-9]{1,7};?|#[xX][0-9a-fA-F]{1,6};?|[a-zA-Z][a-zA-Z0-9]{1,31};|(?:nbsp|amp|quot)\b)"
"""An HTML entity. Named ones end in a semicolon, except for the three that shops most often leave without it."""

INVISIBLE = (
    r"\x{00}-\x{08}\x{0e}-\x{1b}\x{7f}-\x{84}\x{86}-\x{9f}"  # control characters, other than white space
    r"\x{ad}\x{61c}\x{200b}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{fff9}-\x{fffb}"
)
"""Characters without a shape or a meaning: soft hyphens, zero-width spaces, byte order marks, directional marks. As the
inside of a character class of RE2."""

IGNORABLE = (
    rf"{INVISIBLE}\x{{34f}}\x{{115f}}\x{{1160}}\x{{17b4}}\x{{17b5}}\x{{180b}}-\x{{180f}}\x{{200c}}\x{{200d}}"
    + (r"\x{3164}\x{fe00}-\x{fe0f}\x{ffa0}\x{fff0}-\x{fff8}\x{1bca0}-\x{1bca3}\x{1d173}-\x{1d17a}\x{e0000}-\x{e0fff}")
)
"""The invisible characters, and those that only choose a shape, such as joiners and variation selectors: Unicode's
Default_Ignorable_Code_Point (UAX 44)."""

_FRACTIONS = "".join(chr(n) for n in range(0x80, 0x2200) if unicodedata.decomposition(chr(n)).startswith("<fraction>"))
_APART = re.compile(f"[\u2122\u2120]|(?=[{_FRACTIONS}])")
"""Signs that NFKC would join to the word before: "Lego\u2122" to "LegoTM", and "2\u00bd" to "21/2"."""


def _python(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of RE2, which writes code points as \\x{...}."""
    return re.compile(re.sub(r"\\x\{(\w+)\}", lambda code: re.escape(chr(int(code[1], 16))), pattern))


_ENTITY, _INVISIBLE, _IGNORABLE = re.compile(ENTITY, re.ASCII), _python(f"[{INVISIBLE}]"), _python(f"[{IGNORABLE}]")
_ACCENTS = re.compile("[\u0300-\u036f]")
_LOOSE_MARKS = re.compile(r"(?:^|\s)[\u0300-\u036f\u3099\u309a]+")
"""Accents that stand alone, which NFKC makes of characters such as \u00b4."""
_PLAIN = re.compile(r"[ !-%'-~]*")
"""Printable ASCII without an ampersand, for which lower case and white space are all there is to do."""


def clean(text: str) -> str:
    """Return `text` as people see it: HTML entities decoded, also where encoded twice, and `INVISIBLE` removed."""
    while (step := _INVISIBLE.sub("", _ENTITY.sub(_decoded, text) if "&" in text else text)) != text:
        text = step
    return text


def normal_form(text: str) -> str:
    """Return the normal form of `text`: texts that people take for the same have the same.

    HTML entities are decoded, `IGNORABLE` characters are removed, width, ligatures, accents and case are made equal,
    and each run of white space becomes one space. Accents stay: composed and decomposed ones are equal.
    A normal form is its own normal form.

    Source: Unicode's NFKC_Casefold (UAX 44). The entities, the space before fractions and the space in place of a
    trademark sign are our choice.
    """
    while (step := _step(text)) != text:
        text = step
    return text


def without_accents(text: str) -> str:
    """Return `text` without the accents of European scripts, in composed form (NFC)."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


def clean_column(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return `clean` of each string of an Arrow column, [n]; null stays null."""
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([clean_column(chunk) for chunk in column.chunks], column.type)
    return _replaced(column, column, f"&|[{INVISIBLE}]", clean)


def normal_form_column(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the `normal_form` of each string of an Arrow column, [n]; null stays null."""
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([normal_form_column(chunk) for chunk in column.chunks], column.type)
    plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(column), r"\s+", " "))
    return _replaced(plain, column, r"&|[^ -~]", normal_form)


def _step(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return " ".join(text.casefold().split())
    apart = _APART.sub(" ", _IGNORABLE.sub("", clean(text)))
    folded = unicodedata.normalize("NFKC", apart).casefold()
    # NFKC writes fractions with a slash of their own.
    return " ".join(_LOOSE_MARKS.sub(" ", folded.replace("\u2044", "/")).split())


def _decoded(entity: re.Match[str]) -> str:
    """Return the characters of an entity. Its name may be in any case, as in "&Amp;" of a title in title case."""
    name = entity[0].strip("&;")
    if name.startswith("#"):
        return html.unescape(f"&{name};")
    if f"{name};" in html5:
        return html5[f"{name};"]
    decoded = html5.get(f"{name.lower()};", entity[0])
    return decoded.upper() if name.isupper() and decoded != entity[0] else decoded


def _replaced(column: pa.Array, texts: pa.Array, pattern: str, function: Callable[[str], str]) -> pa.Array:
    """Return `column` with `function` of `texts` in the rows where `texts` matches `pattern`, a pattern of RE2."""
    odd = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    values = [function(text) for text in texts.filter(odd).to_pylist()]
    return pc.replace_with_mask(column, odd, pa.array(values, column.type)) if values else column
