"""The grading task: a model learns to give a query and a product one of three grades."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import PositiveInt

from raylevance.data.graded_pairs import GradedPairs
from raylevance.evaluation.agreement import metrics
from raylevance.judges import causal_judge, cross_encoder
from raylevance.judges.causal_judge import CausalJudge
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.grader import GRADES, Grader, log_probabilities
from raylevance.losses.cross_entropy import balanced_weights, weighted_cross_entropy
from raylevance.models.batching import length_groups, pad
from raylevance.models.precision import autocast
from raylevance.training.settings import TrainSettings
from raylevance.training.task import Place, Trainee, located
from raylevance.training.tasks.contrastive.batches import plan_epoch
from raylevance.training.token_file import Ints, RowKind, Tokens, write_tokens

COLUMNS = ("query", "product_text", "grade")
SCHEMA = pa.schema({"tokens": pa.list_(pa.int32()), "grade": pa.int8()})
TOKENS = "pairs.arrow"


class GradingSettings(TrainSettings):
    """`batch` counts pairs."""

    class_weights: Literal["balanced", "none"] = "balanced"
    """balanced: every grade weighs the same in all, however rare."""
    batch_tokens: PositiveInt | None = None
    """Tokens of one forward and backward pass, padding included: it bounds the memory of a step, and changes nothing
    else. None: what suits the model and the device."""


@dataclass
class Grading:
    """Train the grader at `model` on `pairs` (Parquet: query, product_text, grade: 0, 1 or 2; what else is ignored)."""

    model: Path
    pairs: Path
    settings: GradingSettings

    def __post_init__(self) -> None:
        self.model = located(self.model)

    def check(self) -> None:
        load_tokenizer(self.model)

    def describe(self) -> dict[str, Any]:
        return {"model": str(self.model), "pairs": str(self.pairs)}

    def prepare(self, folder: Path) -> None:
        kind = RowKind("graded pairs", COLUMNS, SCHEMA, _fault, _tokenise_rows)
        write_tokens(self.pairs, self.model, folder / TOKENS, kind)

    def open(self, model: Path | None, place: Place) -> "GraderTrainee":
        return GraderTrainee(
            load_grader(model or self.model, place.dtype), Pairs(place.folder / TOKENS), self.settings, place
        )


@dataclass(frozen=True)
class GradingEvaluation:
    """Agreement of a grader with the human grades of `pairs`: the `evaluate` argument of `trainer.train`."""

    pairs: GradedPairs

    def __call__(self, grader: Grader) -> dict[str, float]:
        """Return the metrics of `raylevance.evaluation.agreement.metrics`."""
        predicted = log_probabilities(grader, self.pairs.queries, self.pairs.texts).argmax(axis=1)
        confusion = np.zeros((GRADES, GRADES))
        np.add.at(confusion, (np.asarray(self.pairs.grades), predicted), 1)
        return {name: float(value) for name, value in metrics(confusion).items()}


class Pairs:
    """Tokenised pairs in a memory-mapped file; `grades` [n] int8 and `lengths` [n] (tokens) are held in memory."""

    def __init__(self, file: Path) -> None:
        """Map the file that `Grading.prepare` wrote."""
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        self._tokens = table["tokens"]
        self.grades: npt.NDArray[np.int8] = table["grade"].to_numpy()
        self.lengths: npt.NDArray[np.int32] = pc.list_value_length(self._tokens).to_numpy()

    def tokens(self, row: int) -> Tokens:
        tokens: Tokens = self._tokens[int(row)].values.to_numpy()
        return tokens


class GraderTrainee(Trainee):
    """A grader and its batches: each pair once an epoch, shuffled, pairs of about one length together."""

    def __init__(self, grader: Grader, pairs: Pairs, settings: GradingSettings, place: Place) -> None:
        super().__init__()
        self.model = grader
        self.steps_per_epoch = -(-len(pairs.grades) // settings.batch)
        counts = torch.from_numpy(np.bincount(pairs.grades, minlength=GRADES))
        balanced = settings.class_weights == "balanced"
        self.weights = balanced_weights(counts) if balanced else torch.ones(GRADES, dtype=torch.float64)
        self._pairs, self._settings, self._place = pairs, settings, place
        self._epoch = functools.lru_cache(maxsize=1)(self._plan_epoch)

    def rows(self, step: int) -> Ints:
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[index]

    def backward(self, step: int) -> torch.Tensor:
        """As `Trainee.backward`: group by group, so that the graph of one group is in memory."""
        own = self.rows(step)[self._place.rank :: self._place.world]
        device = self.model.device
        total = torch.zeros((), device=device)
        budget = self._settings.batch_tokens or self.model.default_batch_tokens
        for group in length_groups(self._pairs.lengths[own], budget):
            rows = own[group]
            ids, mask = pad([self._pairs.tokens(row) for row in rows], self.model.pad_id)
            with autocast(device, self._place.dtype):
                logits = self.model(ids.to(device), None if mask is None else mask.to(device))
            grades = torch.from_numpy(self._pairs.grades[rows].astype(np.int64)).to(device)
            loss = weighted_cross_entropy(logits, grades, self.weights.to(device))
            loss.backward()
            total += loss.detach()
        return total

    def pairs(self, rows: Ints) -> int:
        return len(rows)

    def _plan_epoch(self, epoch: int) -> list[Ints]:
        return plan_epoch(self._pairs.lengths, self._settings.batch, np.random.default_rng([self._place.seed, epoch]))


def load_grader(path: str | Path, fixed_dtype: torch.dtype | None = None) -> CrossEncoder | CausalJudge:
    """The grader at `path`; `fixed_dtype` is of weights that training leaves as they are, None: float32.

    Raises `RaylevanceError` where it is none.
    """
    if causal_judge.is_causal_judge(path):
        return CausalJudge.load(path, fixed_dtype or torch.float32)
    return CrossEncoder.load(path)


def load_tokenizer(path: str | Path) -> Callable[[Sequence[str], Sequence[str]], list[list[int]]]:
    """Pairs to token ids, as the grader at `path` reads them; without its weights. Raises as `load_grader`."""
    if causal_judge.is_causal_judge(path):
        return causal_judge.load_tokenizer(path)
    return cross_encoder.load_tokenizer(path)


_tokenizer = functools.lru_cache(maxsize=1)(load_tokenizer)


def _fault(query: str | None, text: str | None, grade: int | None) -> str | None:
    if query is None or text is None or grade is None:
        return "query, product_text and grade are required, none of them null"
    return None if grade in range(GRADES) else f"grade {grade!r} is not 0, 1 or 2"


def _tokenise_rows(rows: pa.Table, model: str) -> pa.Table:
    tokens = _tokenizer(model)(rows["query"].to_pylist(), rows["product_text"].to_pylist())
    return pa.table({"tokens": tokens, "grade": rows["grade"].cast(pa.int8())}, schema=SCHEMA)
