"""The bands of the grades of an encoder, fitted on judged pairs that it has not learned from and kept with it."""

from pathlib import Path

import numpy as np

from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged import Judged
from raylevance.data.text import ProductText
from raylevance.index.grades import GradeBands, fit_grade_bands
from raylevance.inference.encoding import pair_cosines

BANDS = "grade_bands.json"


def save_bands(encoder: Path, text: ProductText, validation: Judged) -> None:
    """Write the bands of the encoder in the folder `encoder` beside it; none where `validation` has one grade alone."""
    pairs = GradedPairs.of(validation, text)
    grades = np.array(pairs.grades)
    if len(np.unique(grades)) > 1:
        bands = fit_grade_bands(pair_cosines(encoder, pairs.queries, pairs.texts), grades)
        (encoder / BANDS).write_text(bands.model_dump_json(indent=1), encoding="utf-8")


def load_bands(encoder: Path) -> GradeBands | None:
    """What `save_bands` wrote; None of an encoder that has none."""
    file = encoder / BANDS
    return GradeBands.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else None
