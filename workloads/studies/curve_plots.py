"""Pictures of studies as SVG files: figures against a budget, one line for each stage of each variant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes

from workloads.svg import drawing, error_bars

CURVES = "curves.svg"
FIGURES = {
    "ndcg@10": "nDCG@10, the whole catalogue",
    "ndcg@10_judged": "nDCG@10, judged products",
    "margin": "average margin, grades 2 and 0",
}
AXES = {"steps": "steps of each stage", "queries": "judged training queries"}


def save_curves(file: Path, points: Sequence[Mapping[str, Any]]) -> None:
    """Draw `FIGURES` of `points` against steps, at the most queries, and against queries.

    The points against queries are those at the most steps. Bars are the intervals over queries. Lines of a variant have
    the same colour; stage 2 is solid, stage 1 dashed and the warm-up dotted.
    """
    most = {axis: max(point[axis] for point in points) for axis in AXES}
    with drawing(file) as save:
        figure, panels = pyplot.subplots(
            len(FIGURES), len(AXES), figsize=(11, 12), sharex="col", sharey="row", layout="constrained"
        )
        for row, (figure_name, label) in zip(panels, FIGURES.items(), strict=True):
            for panel, (axis, axis_label) in zip(row, AXES.items(), strict=True):
                other = next(name for name in AXES if name != axis)
                _draw(panel, axis, figure_name, [point for point in points if point[other] == most[other]])
                panel.set(xlabel=f"{axis_label} ({most[other]} {other})", ylabel=label, xscale="log")
                budgets = sorted({point[axis] for point in points})
                panel.set_xticks(budgets, [str(budget) for budget in budgets])
                panel.minorticks_off()
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
        save(figure)


def _draw(panel: Axes, axis: str, figure: str, points: Sequence[Mapping[str, Any]]) -> None:
    variants = list(dict.fromkeys(point["variant"] for point in points))
    style = {"warm-up": ":", "stage 1": "--", "stage 2": "-"}
    for stage in style:
        drawn: set[tuple[Any, ...]] = set()
        for colour, variant in enumerate(variants):
            line = sorted(
                (point[axis], *point[figure])
                for point in points
                if (point["variant"], point["stage"]) == (variant, stage) and point[figure]
            )
            # Variants that do not change a stage have the same line.
            if not line or tuple(line) in drawn:
                continue
            drawn.add(tuple(line))
            means, bars = error_bars([interval for _, *interval in line])
            x = [budget for budget, *_ in line]
            label = f"{variant}, {stage}"
            panel.errorbar(
                x, means, bars, label=label, color=f"C{colour}", linestyle=style[stage], marker=".", capsize=2
            )
