"""The picture of `raylevance tune hybrid`: nDCG@10 of each system with its interval, as an SVG file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from workloads.svg import drawing, error_bars

PICTURE = "hybrid.svg"


def save_variants(file: Path, systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw held-out nDCG@10 of each system, and its paired difference to BM25, which is the first.

    A system has its `value` and `minus_bm25`, each mean, low and high.
    """
    names = list(systems)
    places = list(range(len(names)))[::-1]
    labels = {"value": "nDCG@10, held out", "minus_bm25": f"minus {names[0]}"}
    with drawing(file) as save:
        figure, panels = pyplot.subplots(1, 2, figsize=(10, 1 + 0.4 * len(names)), sharey=True, layout="constrained")
        for panel, (part, label) in zip(panels, labels.items(), strict=True):
            means, bars = error_bars([systems[name][part] for name in names])
            panel.errorbar(means, places, xerr=bars, fmt="o", capsize=3)
            panel.set(xlabel=label, yticks=places, yticklabels=names)
            panel.grid(axis="x", alpha=0.3)
        panels[1].axvline(0, color="grey", linewidth=0.8)
        save(figure)
