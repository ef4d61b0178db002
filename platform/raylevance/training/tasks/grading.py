"""The grading task: a model learns to give a query and a product one of three grades."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from raylevance.data.graded_pairs import GradedPairs
from raylevance.evaluation.agreement import confusion_metrics
from raylevance.judges import causal_judge, cross_encoder
from raylevance.judges.causal_judge import CausalJudge
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.grader import GRADES, Grader, log_probabilities
from raylevance.losses.cross_entropy import balanced_weights, weighted_cross_entropy
from raylevance.models.precision import autocast
from raylevance.training.epoch_plan import EpochPlan
from raylevance.training.pair_replica import PairReplica
from raylevance.training.settings import TrainSettings
from raylevance.training.task import TOKENS, TextTask, WorkerContext
from raylevance.training.text_groups import padded
from raylevance.training.token_file import Ints, RowKind, Tokens
from raylevance.training.token_table import TokenTable

COLUMNS = ("query", "product_text", "grade")
SCHEMA = pa.schema({"tokens": pa.list_(pa.int32()), "grade": pa.int8()})


def load_grader(path: str | Path, frozen_dtype: torch.dtype | None = None) -> CrossEncoder | CausalJudge:
    """Load the grader at `path`: a language model that judges, or else a cross-encoder.

    `frozen_dtype` is the number format of weights that are not trained; None keeps them in float32.
    Raises `RaylevanceError` if `path` holds no grader.
    """
    if causal_judge.is_causal_judge(path):
        return CausalJudge.load(path, frozen_dtype or torch.float32)
    return CrossEncoder.load(path)


def load_grader_tokenizer(path: str | Path) -> Callable[[Sequence[str], Sequence[str]], list[list[int]]]:
    """Load the tokenizer of the grader at `path` without its weights: pairs of query and text to token ids.

    Raises `RaylevanceError` if `path` holds no grader.
    """
    if causal_judge.is_causal_judge(path):
        return causal_judge.load_prompt_tokenizer(path)
    return cross_encoder.load_pair_tokenizer(path)


def _find_fault(query: str | None, text: str | None, grade: int | None) -> str | None:
    if query is None or text is None or grade is None:
        return "query, product_text and grade are required, none of them null"
    return None if grade in range(GRADES) else f"grade {grade!r} is not 0, 1 or 2"


def _tokenise(rows: pa.Table, tokenizer: Callable[[Sequence[str], Sequence[str]], list[list[int]]]) -> pa.Table:
    tokens = tokenizer(rows["query"].to_pylist(), rows["product_text"].to_pylist())
    return pa.table({"tokens": tokens, "grade": rows["grade"].cast(pa.int8())}, schema=SCHEMA)


GRADED_PAIRS = RowKind(
    name="graded pairs",
    columns=COLUMNS,
    schema=SCHEMA,
    find_fault=_find_fault,
    load_tokenizer=load_grader_tokenizer,
    tokenise=_tokenise,
)
"""Rows of query (string), product_text (string) and grade (0, 1 or 2)."""


class GradingSettings(TrainSettings):
    """Settings of a grader's training. `batch` counts pairs."""

    class_weights: Literal["balanced", "none"] = "balanced"
    """How much a pair weighs in the loss. balanced makes the pairs of each grade weigh the same in total, however rare
    the grade is; none gives every pair the same weight."""


@dataclass
class Grading(TextTask[GradingSettings]):
    """Train the grader at `model` on the pairs in `data`, whose columns `GRADED_PAIRS` states."""

    row_kind: ClassVar[RowKind] = GRADED_PAIRS

    def open(self, model: Path | None, context: WorkerContext) -> "GradingReplica":
        """Return a replica of the task, as `Task.open` does."""
        grader = load_grader(model or self.model, context.autocast_dtype)
        return GradingReplica(grader, TokenisedGradedPairs(context.run_dir / TOKENS), self.settings, context)


METRICS = tuple(confusion_metrics(np.ones((GRADES, GRADES))))
"""The names of what `GradingEvaluation` measures."""


@dataclass(frozen=True)
class GradingEvaluation:
    """Measure a grader's agreement with the human grades of `pairs`: an `evaluate` argument of `trainer.train`."""

    pairs: GradedPairs

    def __call__(self, grader: Grader) -> dict[str, float]:
        """Return the metrics of `raylevance.evaluation.agreement.confusion_metrics`."""
        predicted = log_probabilities(grader, self.pairs.queries, self.pairs.texts).argmax(axis=1)
        confusion = np.zeros((GRADES, GRADES))
        np.add.at(confusion, (np.asarray(self.pairs.grades), predicted), 1)
        return {name: float(value) for name, value in confusion_metrics(confusion).items()}


class TokenisedGradedPairs:
    """The n pairs of a token file. `grades` [n] int8 and `lengths` [n] (tokens) are held in memory."""

    def __init__(self, file: Path) -> None:
        """Map a file that `write_tokens` wrote with `GRADED_PAIRS` into memory."""
        table = TokenTable(file)
        self._tokens = table.lists("tokens")
        self.grades: npt.NDArray[np.int8] = table.numbers("grade")
        self.lengths = self._tokens.lengths

    def tokens(self, row: int) -> Tokens:
        """Return the tokens of a pair, query and product together."""
        return self._tokens[row]


class GradingReplica(PairReplica):
    """A grader, and its batches of pairs: each pair once an epoch, pairs of similar length together."""

    def __init__(
        self, grader: nn.Module, pairs: TokenisedGradedPairs, settings: GradingSettings, context: WorkerContext
    ) -> None:
        plan = EpochPlan.shuffled(pairs.lengths, settings.batch, context.seed)
        super().__init__(grader, plan, context, pairs.lengths)
        counts = torch.from_numpy(np.bincount(pairs.grades, minlength=GRADES))
        balanced = settings.class_weights == "balanced"
        self.weights = balanced_weights(counts) if balanced else torch.ones(GRADES, dtype=torch.float64)
        self._pairs = pairs

    def group_loss(self, pairs: Ints) -> torch.Tensor:
        """Return the weighted cross-entropy of `pairs`, summed over them."""
        device = self.model.device
        ids, mask = padded([self._pairs.tokens(pair) for pair in pairs], self.model.pad_id, device)
        with autocast(device, self.context.autocast_dtype):
            logits = self.model(ids, mask)
        grades = torch.from_numpy(self._pairs.grades[pairs].astype(np.int64)).to(device)
        return weighted_cross_entropy(logits, grades, self.weights.to(device))
