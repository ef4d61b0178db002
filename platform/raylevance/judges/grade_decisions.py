"""From a judge's log-probabilities of the three grades to a grade, its confidence, and whether to abstain."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

Floats = npt.NDArray[np.floating]


class GradeDecisions(NamedTuple):
    """The grades of n pairs."""

    grades: npt.NDArray[np.int8]
    """The most likely grade of each pair, int8 [n]."""
    confidence: npt.NDArray[np.float64]
    """The probability of that grade, float64 [n]."""
    accepted: npt.NDArray[np.bool_]
    """Whether the confidence reaches the threshold, bool [n]; where it does not, the judge abstains."""


def decide_grades(log_probabilities: Floats, temperature: float = 1.0, threshold: float = 0.0) -> GradeDecisions:
    """Pick the most likely grade of each row of `log_probabilities` [n, 3].

    The confidence of a grade is its probability under softmax(log p / temperature); below `threshold` it is not
    accepted.
    """
    probabilities = tempered(log_probabilities, temperature)
    grades = probabilities.argmax(axis=1).astype(np.int8)
    confidence = probabilities.max(axis=1)
    return GradeDecisions(grades, confidence, confidence >= threshold)


def fit_temperature(log_probabilities: Floats, human: npt.NDArray[np.integer]) -> float:
    """Return the temperature in [0.05, 20] under which the human grades [n] are most likely.

    A temperature changes confidences and never a grade. Source: Guo et al. 2017 (arXiv 1706.04599).
    """
    values = np.asarray(log_probabilities, np.float64)
    rows = np.arange(len(human))

    def loss(log_temperature: float) -> float:
        probabilities = tempered(values, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(probabilities[rows, human], 1e-12)).mean())

    bounds = (float(np.log(0.05)), float(np.log(20)))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def tempered(log_probabilities: npt.NDArray[Any], temperature: float) -> npt.NDArray[np.float64]:
    """Return softmax(log p / temperature) of each row of `log_probabilities` [n, 3], float64 [n, 3]; NaN stays NaN."""
    scaled = np.asarray(log_probabilities, np.float64).reshape(-1, 3) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    normalised: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return normalised
