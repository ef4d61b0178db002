"""The picture of `raylevance tune hybrid`: nDCG@10 of each system with its interval, as an SVG file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

PICTURE = "hybrid.svg"


def save_variants(file: Path, systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw held-out nDCG@10 of each system, and its paired difference to BM25, which is the first.

    A system has its `value` and `minus_bm25`, each mean, low and high.
    """
    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(systems)
    places = list(range(len(names)))[::-1]
    with pyplot.rc_context({"svg.hashsalt": file.name, "svg.fonttype": "none"}):
        figure, panels = pyplot.subplots(1, 2, figsize=(10, 1 + 0.4 * len(names)), sharey=True, layout="constrained")
        labels = {"value": "nDCG@10, held out", "minus_bm25": f"minus {names[0]}"}
        for panel, (part, label) in zip(panels, labels.items(), strict=True):
            mean, low, high = zip(*(systems[name][part] for name in names), strict=True)
            below = [m - a for m, a in zip(mean, low, strict=True)]
            above = [b - m for m, b in zip(mean, high, strict=True)]
            panel.errorbar(mean, places, xerr=[below, above], fmt="o", capsize=3)
            panel.set(xlabel=label, yticks=places, yticklabels=names)
            panel.grid(axis="x", alpha=0.3)
        panels[1].axvline(0, color="grey", linewidth=0.8)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)
