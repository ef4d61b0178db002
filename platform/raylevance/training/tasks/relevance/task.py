"""The relevance task: a relevance model learns from people's judgements and from behaviour which pairs are relevant."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field, PositiveInt

from raylevance.errors import RaylevanceError
from raylevance.losses.binary_cross_entropy import weighted_binary_cross_entropy
from raylevance.models.batching import length_groups, pad
from raylevance.models.pair_features import Reading
from raylevance.models.precision import autocast
from raylevance.models.relevance import RelevanceModel, load_tokenizer
from raylevance.models.tokenizer import Side
from raylevance.training.settings import TrainSettings
from raylevance.training.task import Place, Trainee, located
from raylevance.training.tasks.relevance.batches import Order, RelevancePlan
from raylevance.training.token_file import Ints, RowKind, Tokens, write_tokens

COLUMNS = ("query", "product_text", "label", "weight", "source")
SOURCES = ("human", "behaviour")
SCHEMA = pa.schema(
    {
        "query": pa.list_(pa.int32()),
        "item": pa.list_(pa.int32()),
        "label": pa.int8(),
        "weight": pa.float32(),
        "human": pa.bool_(),
    }
)
TOKENS = "relevance_pairs.arrow"


class RelevanceSettings(TrainSettings):
    """`batch` counts pairs, an even number."""

    batch: int = Field(64, gt=0, multiple_of=2)
    learning_rate: float = Field(1e-3, gt=0)
    """Of a head on a frozen encoder (our choice); 2e-5 where the encoder learns too."""
    order: Order = "mixed"
    """mixed: each batch half human, half behaviour. coarse_to_fine: `epochs` of behaviour, then `epochs` of human."""
    batch_tokens: PositiveInt | None = None
    """Tokens of one forward and backward pass, both sides together: it bounds the memory of a step, and changes nothing
    else. None: what suits the device."""


@dataclass
class Relevance:
    """Train the relevance model at `model` on `pairs`.

    `pairs`: Parquet of query, product_text, label (0 or 1), weight (above 0) and source (human or behaviour); what else
    it has is ignored.
    """

    model: Path
    pairs: Path
    settings: RelevanceSettings

    def __post_init__(self) -> None:
        self.model = located(self.model)

    def check(self) -> None:
        load_tokenizer(self.model)

    def describe(self) -> dict[str, Any]:
        return {"model": str(self.model), "pairs": str(self.pairs)}

    def prepare(self, folder: Path) -> None:
        kind = RowKind("relevance pairs", COLUMNS, SCHEMA, _fault, _tokenise_rows)
        write_tokens(self.pairs, self.model, folder / TOKENS, kind)

    def open(self, model: Path | None, place: Place) -> "RelevanceTrainee":
        return RelevanceTrainee(
            RelevanceModel.load(model or self.model), RelevancePairs(place.folder / TOKENS), self.settings, place
        )


class RelevancePairs:
    """Tokenised pairs in a memory-mapped file.

    Held in memory, each [n]: `labels` int8, `weights` float32, `human` bool, and `lengths` (tokens of both texts).
    """

    def __init__(self, file: Path) -> None:
        """Map the file that `Relevance.prepare` wrote."""
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        self._texts: dict[Side, pa.ChunkedArray] = {"query": table["query"], "item": table["item"]}
        self.labels: npt.NDArray[np.int8] = table["label"].to_numpy()
        self.weights: npt.NDArray[np.float32] = table["weight"].to_numpy()
        self.human: npt.NDArray[np.bool_] = table["human"].to_numpy()
        self.lengths: npt.NDArray[np.int32] = sum(
            pc.list_value_length(column).to_numpy() for column in self._texts.values()
        )

    def tokens(self, row: int, side: Side) -> Tokens:
        tokens: Tokens = self._texts[side][int(row)].values.to_numpy()
        return tokens


class RelevanceTrainee(Trainee):
    """A relevance model and its batches."""

    def __init__(self, model: RelevanceModel, pairs: RelevancePairs, settings: RelevanceSettings, place: Place) -> None:
        super().__init__()
        self.model = model
        self._pairs, self._settings, self._place = pairs, settings, place
        self._plan = RelevancePlan(
            pairs.human,
            pairs.lengths,
            batch=settings.batch,
            order=settings.order,
            epochs=settings.epochs,
            seed=place.seed,
        )
        self.steps_per_epoch = self._plan.steps_per_epoch
        if settings.max_steps and pairs.human.any() and settings.max_steps <= self._plan.coarse_steps:
            raise RaylevanceError(
                f"max_steps={settings.max_steps} with order=coarse_to_fine ends before any human label: behaviour "
                f"alone takes {self._plan.coarse_steps} steps; raise max_steps, or take order=mixed"
            )

    def rows(self, step: int) -> Ints:
        return self._plan.rows(step)

    def backward(self, step: int) -> torch.Tensor:
        """As `Trainee.backward`: group by group, so that the graph of one group is in memory."""
        own = self.rows(step)[self._place.rank :: self._place.world]
        device = self.model.device
        total = torch.zeros((), device=device)
        budget = self._settings.batch_tokens or self.model.default_batch_tokens
        for group in length_groups(self._pairs.lengths[own], budget):
            rows = own[group]
            logits = self.model(self._read(rows, "query"), self._read(rows, "item"))
            labels, weights = (
                torch.from_numpy(of[rows]).to(device) for of in (self._pairs.labels, self._pairs.weights)
            )
            loss = weighted_binary_cross_entropy(logits, labels, weights)
            loss.backward()
            total += loss.detach()
        return total

    def pairs(self, rows: Ints) -> int:
        return len(rows)

    def _read(self, rows: Ints, side: Side) -> Reading:
        device = self.model.device
        ids, mask = pad([self._pairs.tokens(row, side) for row in rows], self.model.encoder.tokenize.pad_id)
        with autocast(device, self._place.dtype):
            reading: Reading = self.model.read(ids.to(device), None if mask is None else mask.to(device), side)
        return reading


_tokenizer = functools.lru_cache(maxsize=1)(load_tokenizer)


def _fault(
    query: str | None, text: str | None, label: float | None, weight: float | None, source: str | None
) -> str | None:
    if query is None or text is None or label is None or weight is None or source is None:
        return f"{', '.join(COLUMNS)} are required, none of them null"
    if label not in (0, 1):
        return f"label {label!r} is not 0 or 1"
    if not 0 < weight < math.inf:
        return f"weight {weight!r} is not a number above 0"
    return None if source in SOURCES else f"source {source!r} is not human or behaviour"


def _tokenise_rows(rows: pa.Table, model: str) -> pa.Table:
    tokenize = _tokenizer(model)
    columns = {
        "query": tokenize(rows["query"].to_pylist(), "query"),
        "item": tokenize(rows["product_text"].to_pylist(), "item"),
        "label": rows["label"].cast(pa.int8()),
        "weight": rows["weight"].cast(pa.float32()),
        "human": pc.equal(rows["source"], "human"),
    }
    return pa.table(columns, schema=SCHEMA)
