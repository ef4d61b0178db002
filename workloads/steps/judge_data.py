"""The graded pairs that the candidates of the recipe `judge` learn from and are measured on."""

from dataclasses import dataclass

from raylevance.artifacts import Artifact
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.text import ProductText
from workloads.run import Run
from workloads.steps.encoder_training import Trainer


@dataclass(frozen=True)
class JudgeData:
    """Pairs that people judged, split by query."""

    run: Run
    tables: Artifact
    train: GradedPairs
    """The pairs that the candidates learn from."""
    validation: GradedPairs
    """The pairs that pick the best step of a candidate that is trained in steps, and measure it."""
    text: ProductText
    trainer: Trainer
