"""The two errors that a user can cause. The command line prints either as one line and exits.

Their message says what happened, where (the file, the row or the setting) and what to do about it. Any other exception
is a bug in raylevance and keeps its traceback.
"""

from difflib import get_close_matches


class RaylevanceError(Exception):
    """The work can't be done, for instance because of bad data, a missing artifact or a full disk (exit code 1)."""


class UsageError(RaylevanceError):
    """The request is invalid, for instance because of an unknown setting, recipe or option value (exit code 2)."""


def one_line(error: Exception) -> str:
    """Return the message of `error` on one line, cut to 200 characters."""
    return " ".join(str(error).split())[:200]


def nearest(word: str, candidates: list[str]) -> str:
    """Return a hint for an error about an unknown word: the most similar of `candidates`, or all of them."""
    match = get_close_matches(word, candidates, n=1, cutoff=0.5)
    if match:
        return f"did you mean {match[0]!r}?"
    return f"known: {', '.join(sorted(candidates))}" if candidates else "there are none"
