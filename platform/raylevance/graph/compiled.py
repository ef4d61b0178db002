"""Functions compiled by numba: once a machine, without Python's lock while they run."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function` compiled when it is first called, and cached beside its file for the next process."""
    fast: F = numba.njit(nogil=True, cache=True)(function)
    return fast


def inlined(function: F) -> F:
    """`function` as a part of those that call it."""
    fast: F = numba.njit(inline="always")(function)
    return fast
