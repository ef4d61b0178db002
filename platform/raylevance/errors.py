"""The two errors that a user can cause. The command line prints either as one line and exits.

Their message says what happened, where (the file, the row or the setting) and what to do about it. Any other exception
is a bug in raylevance and keeps its traceback.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

MADE_BY = {
    "index/stage2": "run mine-and-refine",
    "index/*-tuned": "tune hybrid",
    "index/*": "index build",
    "encoder/weak": "run weak-supervision",
    "encoder/items*": "run item-retrieval",
    "encoder/*": "run mine-and-refine",
    "scorer/*": "run weak-supervision",
    "graph/items*": "run item-retrieval",
    "graph/*": "run weak-supervision",
    "table/*": "run item-retrieval",
    "pairs/to-judge": "run pairs-to-judge",
    "judge/*": "run judge",
    "classifier/*": "run query-classification",
    "tables/demo": "data demo",
    "tables/esci": "data import esci",
    "tables/tables": "data import tables",
    "tables/synthetic*": "run synthetic-queries",
    "tables/knowledge": "run knowledge",
    "tables/audited": "run audit",
    "tables/*": "data import",
}
"""The command that makes an artifact. The first pattern that its name matches counts."""
LISTED = 30
"""The most names that a hint lists."""
NAMED = 5
"""How many of the names that were not found are named."""


class RaylevanceError(Exception):
    """The work can't be done, for instance because of bad data, a missing artifact or a full disk (exit code 1)."""


class UsageError(RaylevanceError):
    """The request is invalid, for instance because of an unknown setting, recipe or option value (exit code 2)."""


def one_line(error: Exception) -> str:
    """Return the message of `error` on one line, cut to 200 characters."""
    return " ".join(str(error).split())[:200]


def nearest(word: str, candidates: list[str]) -> str:
    """Return a hint for an error about an unknown word: the most similar of `candidates`, or the first `LISTED`."""
    match = get_close_matches(word, candidates, n=1, cutoff=0.5)
    if match:
        return f"did you mean {match[0]!r}?"
    more = f" and {len(candidates) - LISTED} more" if len(candidates) > LISTED else ""
    return f"known: {', '.join(sorted(candidates)[:LISTED])}{more}" if candidates else "there are none"


def made_by(name: str) -> str:
    """Return a hint for an error about a missing artifact `kind/name`: the command that makes it, or one like it."""
    for pattern, command in MADE_BY.items():
        if fnmatchcase(name, pattern):
            return f"make one with `raylevance {command}`"
    return "list what there is with `raylevance store list`"


def quoted(names: Sequence[object]) -> str:
    """Return `names` in quotes, with commas between them."""
    return ", ".join(map(repr, names))


def first_quoted(names: Sequence[object], count: int | None = None) -> str:
    """Return the first `NAMED` of `names` in quotes, and how many more of the `count` (all of `names`) there are."""
    more = (len(names) if count is None else count) - NAMED
    return quoted(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def lacks_columns(missing: Sequence[str], present: Sequence[str], required: Sequence[str]) -> str:
    """Return what to say of a file that has the columns `present` but not those of `required` that are `missing`.

    A name is suggested where a column that is not itself required has a similar one.
    """
    unused = [name for name in present if name not in required]
    found: dict[str, str] = {}
    for name in missing:
        if match := get_close_matches(name, [other for other in unused if other not in found.values()], 1, 0.5):
            found[name] = match[0]
    if len(missing) == 1 and found:
        hint = f"did you mean {quoted(list(found.values()))}?"
    elif found:
        hint = f"did you mean {', '.join(f'{match!r} for {name!r}' for name, match in found.items())}?"
    else:
        hint = f"its columns: {', '.join(present) or 'none'}"
    return f"has no column {quoted(missing)}; {hint}"
