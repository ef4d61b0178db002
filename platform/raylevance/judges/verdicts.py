"""From a judge's log-probabilities of the three grades to a grade, its confidence, and when to abstain."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

Floats = npt.NDArray[np.floating]


class Verdicts(NamedTuple):
    """`grades` int8 [n]; `confidence` float64 [n], its probability; `sure` bool [n], False where it abstains."""

    grades: npt.NDArray[np.int8]
    confidence: npt.NDArray[np.float64]
    sure: npt.NDArray[np.bool_]


def verdicts(log_probabilities: Floats, temperature: float = 1.0, threshold: float = 0.0) -> Verdicts:
    """The most likely grade of each row of `log_probabilities` [n, 3], with softmax(log p / temperature) as confidence.

    A grade whose confidence is below `threshold` is abstained from.
    """
    probabilities = _tempered(np.asarray(log_probabilities, np.float64).reshape(-1, 3), temperature)
    grades = probabilities.argmax(axis=1).astype(np.int8)
    confidence = probabilities.max(axis=1)
    return Verdicts(grades, confidence, confidence >= threshold)


def fit_temperature(log_probabilities: Floats, human: npt.NDArray[np.integer]) -> float:
    """The temperature in 0.05..20 under which the human grades [n] are most likely.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599): it changes confidences, and no grade.
    """
    values = np.asarray(log_probabilities, np.float64)
    rows = np.arange(len(human))

    def loss(log_temperature: float) -> float:
        probabilities = _tempered(values, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(probabilities[rows, human], 1e-12)).mean())

    bounds = (float(np.log(0.05)), float(np.log(20)))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _tempered(log_probabilities: npt.NDArray[np.float64], temperature: float) -> npt.NDArray[np.float64]:
    scaled = log_probabilities / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    normalised: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return normalised
