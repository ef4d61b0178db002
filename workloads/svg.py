"""Figures of reports and studies as SVG files that are the same for the same data, and intervals as error bars."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

Interval = Sequence[float]
"""A mean and the low and high ends of its interval."""


@contextmanager
def drawing(file: Path, size: tuple[float, float] = (8, 5)) -> Iterator[Callable[[Figure], None]]:
    """Draw with pyplot, and call what is yielded to write the figure to `file`. `size` is in inches."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    def save(figure: Figure) -> None:
        figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)

    # The salt makes the file the same for the same data; "none" keeps text as text.
    with pyplot.rc_context({"svg.hashsalt": file.name, "svg.fonttype": "none", "figure.figsize": size}):
        yield save


def error_bars(intervals: Sequence[Interval]) -> tuple[list[float], list[list[float]]]:
    """Return the means, and how far each interval reaches below and above, as pyplot's `errorbar` takes them."""
    below, above = ([abs(interval[0] - interval[side]) for interval in intervals] for side in (1, 2))
    return [interval[0] for interval in intervals], [below, above]
