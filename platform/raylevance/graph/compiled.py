"""Decorators for functions that numba compiles to machine code and that run without Python's global lock."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` on its first call and cache the result next to its file for later processes."""
    fast: F = numba.njit(nogil=True, cache=True)(function)
    return fast


def inlined(function: F) -> F:
    """Compile `function` into each compiled function that calls it."""
    fast: F = numba.njit(inline="always")(function)
    return fast
