"""Values as people read them, for the tables of commands and recipes. `--json` prints them as they are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def readable(value: Any) -> str:
    """Return a value as text: 4 decimals, yes and no, none, and commas between the values of a list."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {readable(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        texts = (f"[{readable(each)}]" if isinstance(each, list | tuple) else readable(each) for each in value)
        return ", ".join(texts) or "none"
    return str(value)


def with_interval(estimate: Sequence[float]) -> str:
    """Return a mean and its interval, given as mean, low and high, as `0.500 [0.400, 0.600]`."""
    mean, low, high = estimate
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def readable_rows(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each value. Each value inside of another has a row, with both names."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{name} {inner}", text) for inner, text in readable_rows(value))
        else:
            yield name, readable(value)
