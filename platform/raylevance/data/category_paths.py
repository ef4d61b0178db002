"""Read category paths in the spellings that exports use."""

import ast
import json
import re
from typing import Any

SEPARATORS = {
    ">": re.compile(r"\s*[-=]?(?:>|&gt;|\uff1e|\u203a|\u00bb|\u226b|\u2192|\u21d2|\u25b6|\u25b8|\u276f)+\s*"),
    "|": re.compile(r"\s*[|\uff5c]+\s*"),
    "\\": re.compile(r"\s*[\\\uff3c]+\s*"),
    "::": re.compile(r"\s*::\s*"),
}
"""What parts the levels of a path, with or without spaces."""

ENTITY = re.compile(r"&#?\w+;")
"""An HTML entity, whose semicolon parts nothing."""

SPACED_SLASH = re.compile(r"\s+/\s+|\s*//+\s*")
TIGHT_SLASH = re.compile(r"(?<=[^\s/\d])/(?=[^\s/])|(?<=[^\s/])/(?=[^\s/\d])")
"""A slash without spaces, but not that of a fraction."""

_ITEM = r"""(?:[uU]?'(?:[^'\\]|\\.)*'|[uU]?"(?:[^"\\]|\\.)*"|None|-?\d+(?:\.\d+)?)"""
PYTHON_LIST = re.compile(rf"[\[(]\s*(?:{_ITEM}\s*(?:,\s*{_ITEM}\s*)*)?,?\s*[\])]", re.DOTALL)
"""The text of a Python list or tuple of strings and numbers, with commas between them."""

BREAK = re.compile(r"[;\r\n]")
TIGHT_COMMA = re.compile(r"(?<=[^\W\d]),(?=[^\W\d])")
CODE = re.compile(r"[a-z_]{2,}(?:\.[a-z_]{2,})+")
"""Words of lower case with points between, such as electronics.smartphone."""
SIGN = re.compile(r"(?<=[^\W\d][^\W\d])[:.](?=[^\W\d][^\W\d])|\s[-\u2013\u2014:~^\u2022\u00b7]\s")
"""What may part levels where it stands twice, as in Home - Garden - Hoses."""
JOINED = re.compile(r"[&+]|\b(?:and|or|und|oder|et|ou|y|e|o)\b", re.IGNORECASE)
"""What joins the last part of a name with commas, such as Clothing, Shoes & Jewelry."""

SEVERAL = "holds several paths; give one, such as Home > Kitchen"
UNCLEAR = "may be one level or more; write Home > Kitchen, or a list"


def levels_of(text: str) -> list[Any]:
    """Return the levels of the category path `text`, from the root; a level may be empty.

    Levels are written as a JSON or Python list, or are parted by one of `SEPARATORS`, by slashes with spaces, or by
    two slashes or more without spaces.

    Raises `ValueError` with the reason if the levels can be read in two ways, such as a/b, which may be one level.
    """
    text = text.strip()
    if text[:1] == text[-1:] == '"' and text.count('"') == 2:
        text = text[1:-1].strip()
    if text.startswith(("[", "{")) or PYTHON_LIST.fullmatch(text):
        return _listed(text)
    found = [name for name, separator in SEPARATORS.items() if separator.search(text)]
    if len(found) > 1:
        raise ValueError(f"is parted by {' and by '.join(found)}; use one of them, or a list")
    separator = SEPARATORS[found[0]] if found else SPACED_SLASH if SPACED_SLASH.search(text) else None
    if separator is None:
        return _slashed(text)
    levels = separator.split(text)
    begins_again = re.compile(rf",\s*{re.escape(levels[0])}$")
    if BREAK.search(ENTITY.sub("", text)) or any(begins_again.search(level) for level in levels[1:]):
        raise ValueError(SEVERAL)
    return levels


def _listed(text: str) -> list[Any]:
    try:
        levels = json.loads(text)
    except (ValueError, RecursionError):
        # Strings without a comma between them, as numpy prints them, would be joined by Python.
        levels = list(ast.literal_eval(text)) if PYTHON_LIST.fullmatch(text) else None
    if not isinstance(levels, list):
        raise ValueError("begins as a list but can't be read as one; write Home > Kitchen, or a JSON list")
    return levels


def _slashed(text: str) -> list[Any]:
    """Read slashes without spaces. One alone may stand inside a name, as in Audio/Video, and so may other signs."""
    slashes = len(TIGHT_SLASH.findall(text))
    rooted = re.fullmatch(r"/[^\s/].*|.*[^\s/]/", text, re.DOTALL) is not None
    if slashes > 1 or rooted:
        return TIGHT_SLASH.split(text.strip("/"))
    if slashes or _may_be_parted(ENTITY.sub("", text)):
        raise ValueError(UNCLEAR)
    return [text]


def _may_be_parted(text: str) -> bool:
    """Return whether a text without a separator may be several levels, such as Garden,Hoses."""
    if BREAK.search(text) or TIGHT_COMMA.search(text) or CODE.fullmatch(text):
        return True
    return len(SIGN.findall(text)) > 1 or (text.count(", ") > 1 and not JOINED.search(text))
