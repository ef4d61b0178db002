"""The relevance model: an encoder that reads query and item apart, and a small head on what the two readings share.

Source: the "post-cross" calculation of relevance in the CIKM 2022 paper (DOI 10.1145/3511808.3557143), which prints no
head; this one is our reading of it.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from pydantic import PositiveInt
from torch import nn
from torch.nn import functional

from raylevance.config import Settings
from raylevance.hugging_face import one_line_errors
from raylevance.models import encoder as encoders
from raylevance.models.batching import length_groups, pad
from raylevance.models.encoder import Encoder, Vectors
from raylevance.models.folder import write_json
from raylevance.models.pair_features import Reading, TokenStates, pair_features
from raylevance.models.precision import autocast, autocast_dtype
from raylevance.models.tokenizer import Side, SideTokenizer

Logits = npt.NDArray[np.float32]

SETTINGS, HEAD, ENCODER = "relevance.json", "head.safetensors", "encoder"
COSINE_WEIGHT, NEUTRAL_COSINE = 10.0, 0.5
"""An untrained head's log-odds are 10 (cos - 0.5): of about the spread that log-odds have (our choice)."""
READ_PAIRS, COMPARED_PAIRS = 2_048, 512
"""Pairs whose token states are held at once, and pairs compared at once: some hundred MB of either."""


class RelevanceModelSettings(Settings):
    """What the head reads, and what learns."""

    hidden: PositiveInt = 64
    token_interaction: bool = True
    """Compare tokens as well as vectors. Without, a score needs nothing but the two vectors, which may be cached."""
    freeze_encoder: bool = True
    """Only the head learns: the vectors stay those of the index."""


class RelevanceModel(nn.Module):
    """Pairs of a query and an item's text to the log-odds that the item is relevant."""

    def __init__(self, encoder: Encoder, settings: RelevanceModelSettings) -> None:
        """The head is new: the model ranks as the encoder's cosine."""
        super().__init__()
        self.settings, self.encoder = settings, encoder
        if settings.freeze_encoder:
            encoder.requires_grad_(False)
        self.head = RelevanceHead(4 * encoder.dimension + 1 + settings.token_interaction, settings.hidden)
        tokenizer = encoder.tokenize.tokenizer
        self._special = sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})

    @classmethod
    def from_encoder(cls, encoder: str | Path, settings: RelevanceModelSettings, seed: int = 0) -> Self:
        """A new head, random by `seed`, on an encoder. Raises as `Encoder.load`."""
        loaded = Encoder.load(encoder)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return cls(loaded, settings)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The model that `save` wrote. Raises `RaylevanceError` where `path` is none."""
        settings, folder = read_settings(path), Path(path)
        with one_line_errors(str(path), "relevance model"):
            model = cls(Encoder.load(folder / ENCODER), settings)
            model.head.load_state_dict(safetensors.torch.load_file(folder / HEAD))
        return model

    def save(self, path: str | Path) -> None:
        """Write the model to the folder `path`, replacing what it holds; its `encoder` opens as an `Encoder`."""
        folder = Path(path)
        shutil.rmtree(folder, ignore_errors=True)
        self.encoder.save(folder / ENCODER)
        write_json(folder / SETTINGS, self.settings.model_dump())
        weights = {name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}
        safetensors.torch.save_file(weights, folder / HEAD)

    def train(self, mode: bool = True) -> Self:
        """A frozen encoder reads without dropout in either mode."""
        super().train(mode)
        if self.settings.freeze_encoder:
            self.encoder.train(False)
        return self

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    @property
    def default_batch_tokens(self) -> int:
        """Tokens of one forward pass, padding included."""
        return self.encoder.default_batch_tokens

    def read(self, ids: torch.Tensor, mask: torch.Tensor | None, side: Side) -> Reading:
        """Texts of one side: token ids [n, t]; `mask` [n, t] is None where nothing is padded.

        Token states go through the side's head, as their mean does.
        """
        if not self.settings.token_interaction:
            return Reading(self.encoder(ids, mask, side))
        query = side == "query"
        tower = self.encoder.query_tower if query else self.encoder.item_tower
        projection = self.encoder.query_head if query else self.encoder.item_head
        seen: list[torch.Tensor] = []
        with tower.register_forward_hook(lambda _, given, output: seen.append(output.last_hidden_state)):
            vectors = self.encoder(ids, mask, side)
        states = seen[0] if projection is None else projection(seen[0])
        words = ~torch.isin(ids, torch.tensor(self._special, device=ids.device))
        if mask is not None:
            words &= mask.bool()
        return Reading(vectors, TokenStates(functional.normalize(states.float(), dim=-1), words))

    def forward(self, queries: Reading, items: Reading) -> torch.Tensor:
        """Log-odds float32 [n] of n pairs, row by row."""
        with autocast(self.device, None):
            logits: torch.Tensor = self.head(*pair_features(queries, items))
        return logits

    def score(
        self,
        queries: Sequence[str],
        texts: Sequence[str],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Logits:
        """Log-odds float32 [n] of the pairs of `queries` and item `texts` [n], in their order.

        A text that comes again is read once: among `READ_PAIRS` pairs where tokens are compared, else among all.
        `batch_tokens` bounds the tokens, padding included, of one forward pass.
        `progress` is called with the number of pairs done since its last call.
        """
        logits = np.empty(len(queries), np.float32)
        order = np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)
        size = READ_PAIRS if self.settings.token_interaction else max(1, len(order))
        training = self.training
        self.eval()
        for start in range(0, len(order), size):
            pairs = order[start : start + size]
            query_reading, query_rows = self._read_distinct([queries[row] for row in pairs], "query", batch_tokens)
            item_reading, item_rows = self._read_distinct([texts[row] for row in pairs], "item", batch_tokens)
            logits[pairs] = self._compare(query_reading, query_rows, item_reading, item_rows)
            if progress:
                progress(len(pairs))
        self.train(training)
        return logits

    def score_vectors(self, queries: Vectors, items: Vectors) -> Logits:
        """Log-odds float32 [n] from the encoder's unit vectors [n, d] of both sides, pairs row by row.

        Raises `ValueError` for a model that compares tokens: vectors do not have them.
        """
        if self.settings.token_interaction:
            raise ValueError("this model compares tokens; score the texts, or train it with token_interaction=false")
        readings = [Reading(torch.from_numpy(np.array(vectors)).to(self.device)) for vectors in (queries, items)]
        rows = torch.arange(len(queries), device=self.device)
        return self._compare(readings[0], rows, readings[1], rows)

    @torch.inference_mode()
    def _read_distinct(
        self, texts: Sequence[str], side: Side, batch_tokens: int | None
    ) -> tuple[Reading, torch.Tensor]:
        """The distinct texts, and the row [n] of each of `texts` among them."""
        places = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        tokens = self.encoder.tokenize(list(places), side)
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        longest = int(lengths.max()) if self.settings.token_interaction else None
        distinct = Reading.blank(len(tokens), longest, self.encoder.dimension, self.device)
        for rows in length_groups(lengths, batch_tokens or self.default_batch_tokens):
            ids, mask = pad([tokens[row] for row in rows], self.encoder.tokenize.pad_id)
            with autocast(self.device, autocast_dtype(self.device)):
                part = self.read(ids.to(self.device), None if mask is None else mask.to(self.device), side)
            distinct.put(torch.from_numpy(rows).to(self.device), part)
        return distinct, torch.tensor([places[text] for text in texts], device=self.device)

    @torch.inference_mode()
    def _compare(self, queries: Reading, query_rows: torch.Tensor, items: Reading, item_rows: torch.Tensor) -> Logits:
        """Log-odds [n] of the pairs of `query_rows` and `item_rows` [n]."""
        logits = [
            self(queries.take(own), items.take(other))
            for own, other in zip(query_rows.split(COMPARED_PAIRS), item_rows.split(COMPARED_PAIRS), strict=True)
        ]
        joined: Logits = torch.cat(logits).cpu().numpy()
        return joined


class RelevanceHead(nn.Module):
    """The logit `a * cos + MLP(features)`: an MLP of one hidden layer (GELU) corrects the cosine.

    Its last weights start at 0, so that an untrained head ranks as the cosine.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.cosine_weight = nn.Parameter(torch.tensor(COSINE_WEIGHT))
        self.input, self.output = nn.Linear(features, hidden), nn.Linear(hidden, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.constant_(self.output.bias, -COSINE_WEIGHT * NEUTRAL_COSINE)

    def forward(self, features: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
        """Logits [n] of `features` [n, f] and `cosines` [n]."""
        correction: torch.Tensor = self.output(functional.gelu(self.input(features)))
        return self.cosine_weight * cosines + correction[:, 0]


def read_settings(path: str | Path) -> RelevanceModelSettings:
    """The settings of the model at `path`. Raises `RaylevanceError` where it is none."""
    with one_line_errors(str(path), "relevance model"):
        return RelevanceModelSettings(**json.loads((Path(path) / SETTINGS).read_text(encoding="utf-8")))


def load_tokenizer(path: str | Path) -> SideTokenizer:
    """The tokenizer alone of the model at `path`, without its weights. Raises as `RelevanceModel.load`."""
    read_settings(path)
    return encoders.load_tokenizer(Path(path) / ENCODER)
