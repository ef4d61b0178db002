"""Read category paths in the spellings that exports use."""

import ast
import json
import re
from typing import Any

SEPARATORS = {
    ">": re.compile(r"\s*[-=]?(?:>|&gt;|\u203a|\u00bb|\u2192)+\s*"),
    "|": re.compile(r"\s*\|+\s*"),
    "\\": re.compile(r"\s*\\+\s*"),
    "::": re.compile(r"\s*::\s*"),
}
"""What parts the levels of a path, with or without spaces."""

ENTITY = re.compile(r"&#?\w+;")
"""An HTML entity, whose semicolon parts nothing."""

SPACED_SLASH = re.compile(r"\s+/\s+")
TIGHT_SLASH = re.compile(r"(?<=[^\s/\d])/(?=[^\s/])|(?<=[^\s/])/(?=[^\s/\d])")
"""A slash without spaces, but not that of a fraction."""

_ITEM = r"""(?:[uU]?'(?:[^'\\]|\\.)*'|[uU]?"(?:[^"\\]|\\.)*"|None|-?\d+(?:\.\d+)?)"""
PYTHON_LIST = re.compile(rf"[\[(]\s*(?:{_ITEM}\s*(?:,\s*{_ITEM}\s*)*)?,?\s*[\])]", re.DOTALL)
"""The text of a Python list or tuple of strings and numbers, with commas between them."""

UNCLEAR = "may be one level or more; write Home > Kitchen, or a list"


def levels_of(text: str) -> list[Any]:
    """Return the levels of the category path `text`, from the root; a level may be empty.

    Levels are written as a JSON or Python list, or are parted by one of `SEPARATORS`, by slashes with spaces, or by
    two slashes or more without spaces.

    Raises `ValueError` with the reason if the levels can be read in two ways, such as a/b, which may be one level.
    """
    text = text.strip()
    if text.startswith(("[", "{")) or PYTHON_LIST.fullmatch(text):
        return _listed(text)
    found = [name for name, separator in SEPARATORS.items() if separator.search(text)]
    if len(found) > 1:
        raise ValueError(f"is parted by {' and by '.join(found)}; use one of them, or a list")
    if found:
        levels = SEPARATORS[found[0]].split(text)
        if any(re.search(rf",\s*{re.escape(levels[0])}$", level) for level in levels[1:]):
            raise ValueError("holds several paths; give one, such as Home > Kitchen")
        return levels
    if SPACED_SLASH.search(text):
        return SPACED_SLASH.split(text)
    return _slashed(text)


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
    """Read slashes without spaces. One alone may stand inside a name, as in Audio/Video, and so may a semicolon."""
    if ";" in ENTITY.sub("", text):
        raise ValueError(UNCLEAR)
    slashes = len(TIGHT_SLASH.findall(text))
    rooted = re.fullmatch(r"/[^\s/].*|.*[^\s/]/", text, re.DOTALL) is not None
    if slashes > 1 or rooted:
        return TIGHT_SLASH.split(text.strip("/"))
    if slashes:
        raise ValueError(UNCLEAR)
    return [text]
