"""The picture of the study of annotators: what labels give, against how many of them are wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from workloads.svg import drawing, error_bars

PICTURE = "annotators.svg"
GAINS = (
    "stage 1 minus warm-up",
    "stage 2 minus warm-up",
    "graded mined pairs, own labels",
    "graded mined pairs, true labels",
)
PAPERS_ACCURACY = 0.876
"""How often the paper's judge agrees with people (Mine and Refine, arXiv 2602.17654)."""


def save_gains(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw each gain in nDCG@10 against the share of wrong labels, with its interval over queries.

    Annotators with errors at random are joined by a line; those who accept too much are drawn as crosses.
    """
    with drawing(file) as save:
        figure, panel = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
        for number, gain in enumerate(GAINS):
            for biased, marker in ((False, ".-"), (True, "x")):
                kept = [row for row in rows if row["annotator"].startswith("yes") == biased]
                if not kept:
                    continue
                x = [100 * (1 - row["right"]) for row in kept]
                means, bars = error_bars([row[gain] for row in kept])
                label = None if biased else gain
                panel.errorbar(x, means, bars, fmt=marker, color=f"C{number}", label=label, capsize=2)
        panel.axhline(0, color="grey", linewidth=0.8)
        wrong = 100 * (1 - PAPERS_ACCURACY)
        panel.axvline(wrong, color="grey", linestyle=":", label="the paper's judge, 87.6% right")
        panel.set(xlabel="wrong labels, % (crosses: an annotator who accepts too much)", ylabel="gain in nDCG@10")
        panel.legend(fontsize="small")
        save(figure)
