"""Bands of the cosine that stand for grades, fitted for an encoder and kept in its folder."""

from pathlib import Path

import numpy as np

from raylevance.data.graded_pairs import GradedPairs
from raylevance.index.grades import GradeBands, fit_grade_bands
from raylevance.inference.encoding import pair_cosines

BANDS = "grade_bands.json"


def save_bands(encoder: Path, pairs: GradedPairs) -> None:
    """Fit the bands of the encoder in the folder `encoder` to `pairs` and write them into that folder.

    The encoder must not have learned from `pairs`. Nothing is written when they all have the same grade.
    """
    grades = np.array(pairs.grades)
    if len(np.unique(grades)) > 1:
        bands = fit_grade_bands(pair_cosines(encoder, pairs.queries, pairs.texts), grades)
        (encoder / BANDS).write_text(bands.model_dump_json(indent=1), encoding="utf-8")


def load_bands(encoder: Path) -> GradeBands | None:
    """Read the bands that `save_bands` wrote; None for an encoder without bands."""
    file = encoder / BANDS
    return GradeBands.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else None
