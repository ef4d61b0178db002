"""The relevance task: a model learns which pairs are relevant from people's judgements and from behaviour."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from raylevance.errors import RaylevanceError
from raylevance.losses.binary_cross_entropy import weighted_binary_cross_entropy
from raylevance.models.pair_features import EncodedTexts
from raylevance.models.precision import autocast
from raylevance.models.relevance import RelevanceModel, load_relevance_tokenizer
from raylevance.models.tokenizer import Side, SideTokenizer
from raylevance.training.pair_replica import PairReplica
from raylevance.training.settings import TrainSettings
from raylevance.training.task import TOKENS, TextTask, WorkerContext
from raylevance.training.tasks.relevance.pair_plan import Order, PairPlan
from raylevance.training.text_groups import padded
from raylevance.training.token_file import Ints, RowKind, Tokens
from raylevance.training.token_table import TokenTable

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


def _find_fault(
    query: str | None, text: str | None, label: float | None, weight: float | None, source: str | None
) -> str | None:
    if query is None or text is None or label is None or weight is None or source is None:
        return f"{', '.join(COLUMNS)} are required, none of them null"
    if label not in (0, 1):
        return f"label {label!r} is not 0 or 1"
    if not 0 < weight < math.inf:
        return f"weight {weight!r} is not a number above 0"
    return None if source in SOURCES else f"source {source!r} is not human or behaviour"


def _tokenise(rows: pa.Table, tokenizer: SideTokenizer) -> pa.Table:
    columns = {
        "query": tokenizer(rows["query"].to_pylist(), "query"),
        "item": tokenizer(rows["product_text"].to_pylist(), "item"),
        "label": rows["label"].cast(pa.int8()),
        "weight": rows["weight"].cast(pa.float32()),
        "human": pc.equal(rows["source"], "human"),
    }
    return pa.table(columns, schema=SCHEMA)


RELEVANCE_PAIRS = RowKind(
    name="relevance pairs",
    columns=COLUMNS,
    schema=SCHEMA,
    find_fault=_find_fault,
    load_tokenizer=load_relevance_tokenizer,
    tokenise=_tokenise,
)
"""Rows of query (string), product_text (string), label (0 or 1), weight (above 0) and source ("human" or
"behaviour")."""


class RelevanceSettings(TrainSettings):
    """Settings of a relevance model's training. `batch` counts pairs and is even."""

    batch: int = Field(64, gt=0, multiple_of=2)
    """Pairs of one optimiser step, over all workers together."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate. The default is for a head on a frozen encoder (our choice); take 2e-5 where the encoder
    is trained too."""
    order: Order = "mixed"
    """Order of the two sources. mixed makes each batch half human and half behaviour pairs; coarse_to_fine trains
    `epochs` on behaviour pairs, then `epochs` on human pairs."""


@dataclass
class Relevance(TextTask[RelevanceSettings]):
    """Train the relevance model at `model` on the pairs in `data`, whose columns `RELEVANCE_PAIRS` states."""

    row_kind: ClassVar[RowKind] = RELEVANCE_PAIRS

    def open(self, model: Path | None, context: WorkerContext) -> "RelevanceReplica":
        """Return a replica of the task, as `Task.open` does."""
        loaded = RelevanceModel.load(model or self.model)
        return RelevanceReplica(loaded, TokenisedPairs(context.run_dir / TOKENS), self.settings, context)


class TokenisedPairs:
    """The n pairs of a token file.

    Held in memory, each [n]: `labels` int8, `weights` float32, `human` bool (whether people judged the pair), and
    `lengths` int32 (tokens of both texts).
    """

    def __init__(self, file: Path) -> None:
        """Map a file that `write_tokens` wrote with `RELEVANCE_PAIRS` into memory."""
        table = TokenTable(file)
        self._texts = {"query": table.lists("query"), "item": table.lists("item")}
        self.labels: npt.NDArray[np.int8] = table.numbers("label")
        self.weights: npt.NDArray[np.float32] = table.numbers("weight")
        self.human: npt.NDArray[np.bool_] = table.numbers("human")
        self.lengths: npt.NDArray[np.int32] = self._texts["query"].lengths + self._texts["item"].lengths

    def tokens(self, row: int, side: Side) -> Tokens:
        """Return the tokens of one side of a pair."""
        return self._texts[side][row]


class RelevanceReplica(PairReplica):
    """A relevance model, and its batches of pairs."""

    def __init__(
        self, model: RelevanceModel, pairs: TokenisedPairs, settings: RelevanceSettings, context: WorkerContext
    ) -> None:
        """Raises `RaylevanceError` if the run would end before its first human pair."""
        plan = PairPlan(
            pairs.human,
            pairs.lengths,
            batch=settings.batch,
            order=settings.order,
            epochs=settings.epochs,
            seed=context.seed,
        )
        super().__init__(model, plan, context, pairs.lengths)
        self._pairs = pairs
        if settings.max_steps and pairs.human.any() and settings.max_steps <= plan.behaviour_steps:
            raise RaylevanceError(
                f"max_steps={settings.max_steps} with order=coarse_to_fine ends before any human label: behaviour "
                f"alone takes {plan.behaviour_steps} steps; raise max_steps, or set order=mixed"
            )

    def group_loss(self, pairs: Ints) -> torch.Tensor:
        """Return the weighted binary cross-entropy of `pairs`, summed over them."""
        device = self.model.device
        logits = self.model(self._encode(pairs, "query"), self._encode(pairs, "item"))
        labels = torch.from_numpy(self._pairs.labels[pairs]).to(device)
        weights = torch.from_numpy(self._pairs.weights[pairs]).to(device)
        return weighted_binary_cross_entropy(logits, labels, weights)

    def _encode(self, rows: Ints, side: Side) -> EncodedTexts:
        device = self.model.device
        ids, mask = padded([self._pairs.tokens(row, side) for row in rows], self.model.encoder.tokenize.pad_id, device)
        with autocast(device, self.context.autocast_dtype):
            encoded: EncodedTexts = self.model.encode_tokens(ids, mask, side)
        return encoded
