"""The relevance model: an encoder of queries and items, and a small head on features of both.

Source: the "post-cross" calculation of relevance in the CIKM 2022 paper (DOI 10.1145/3511808.3557143). The paper does
not describe the head; this one is our reading of it.
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
from raylevance.models.encoder import Encoder
from raylevance.models.encoder_folder import write_json
from raylevance.models.pair_features import EncodedTexts, TokenStates, pair_features
from raylevance.models.precision import autocast, autocast_dtype
from raylevance.models.tokenizer import Side, SideTokenizer

Logits = npt.NDArray[np.float32]

SETTINGS, HEAD, ENCODER = "relevance.json", "head.safetensors", "encoder"
COSINE_WEIGHT, NEUTRAL_COSINE = 10.0, 0.5
"""An untrained head gives the log-odds 10 (cos - 0.5), which have about the usual spread of log-odds (our choice)."""

READ_PAIRS, COMPARED_PAIRS = 2_048, 512
"""How many pairs have their token states in memory at once, and how many are compared at once.

Both take a few hundred MB.
"""


class RelevanceModelSettings(Settings):
    """The inputs of the head, and the parts that are trained."""

    hidden: PositiveInt = 64
    """The width of the head's hidden layer."""

    token_interaction: bool = True
    """Compare tokens as well as vectors. Without it, a score needs only the two vectors, which may be cached."""

    freeze_encoder: bool = True
    """Train only the head, so that the vectors stay those of the index."""


class RelevanceModel(nn.Module):
    """A model that gives the log-odds that an item is relevant to a query."""

    def __init__(self, encoder: Encoder, settings: RelevanceModelSettings) -> None:
        """Put a new head on `encoder`. The untrained model ranks like the encoder's cosine."""
        super().__init__()
        self.settings, self.encoder = settings, encoder
        if settings.freeze_encoder:
            encoder.requires_grad_(False)
        self.head = RelevanceHead(4 * encoder.dimension + 1 + settings.token_interaction, settings.hidden)
        tokenizer = encoder.tokenize.tokenizer
        self._special = sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})

    @classmethod
    def from_encoder(cls, encoder: str | Path, settings: RelevanceModelSettings, seed: int = 0) -> Self:
        """Return a new model on a saved encoder, with a random head by `seed`. Raises as `Encoder.load` does."""
        loaded = Encoder.load(encoder)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return cls(loaded, settings)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the model that `save` wrote. Raises `RaylevanceError` if `path` is not a readable model."""
        settings, folder = read_relevance_settings(path), Path(path)
        with one_line_errors(str(path), "relevance model"):
            model = cls(Encoder.load(folder / ENCODER), settings)
            model.head.load_state_dict(safetensors.torch.load_file(folder / HEAD))
        return model

    def save(self, path: str | Path) -> None:
        """Write the model to the folder `path`, and delete what was in the folder before.

        `Encoder.load` opens its subfolder `encoder`.
        """
        folder = Path(path)
        shutil.rmtree(folder, ignore_errors=True)
        self.encoder.save(folder / ENCODER)
        write_json(folder / SETTINGS, self.settings.model_dump())
        weights = {name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}
        safetensors.torch.save_file(weights, folder / HEAD)

    def train(self, mode: bool = True) -> Self:
        """Set training mode as in PyTorch, but keep a frozen encoder in evaluation mode, without dropout."""
        super().train(mode)
        if self.settings.freeze_encoder:
            self.encoder.train(False)
        return self

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.encoder.device

    @property
    def default_batch_tokens(self) -> int:
        """The number of tokens, padding included, of one forward pass on this device."""
        return self.encoder.default_batch_tokens

    def encode_tokens(self, ids: torch.Tensor, mask: torch.Tensor | None, side: Side) -> EncodedTexts:
        """Encode texts of one side from token ids [n, t]. `mask` [n, t] is None if nothing is padded.

        Token states go through the encoder's head of that side, as their mean does.
        """
        if not self.settings.token_interaction:
            return EncodedTexts(self.encoder(ids, mask, side))
        is_query = side == "query"
        tower = self.encoder.query_tower if is_query else self.encoder.item_tower
        projection = self.encoder.query_head if is_query else self.encoder.item_head
        hidden: list[torch.Tensor] = []
        with tower.register_forward_hook(lambda _, inputs, output: hidden.append(output.last_hidden_state)):
            vectors = self.encoder(ids, mask, side)
        states = hidden[0] if projection is None else projection(hidden[0])
        words = ~torch.isin(ids, torch.tensor(self._special, device=ids.device))
        if mask is not None:
            words &= mask.bool()
        return EncodedTexts(vectors, TokenStates(functional.normalize(states.float(), dim=-1), words))

    def forward(self, queries: EncodedTexts, items: EncodedTexts) -> torch.Tensor:
        """Return the log-odds, float32 [n], of n pairs, which are paired row by row."""
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
        """Return the log-odds, float32 [n], of the pairs of `queries` [n] and item `texts` [n], in their order.

        A repeated text is encoded once: among all pairs, or among `READ_PAIRS` pairs if tokens are compared.

        `batch_tokens` limits the tokens, padding included, of one forward pass; None takes `default_batch_tokens`.
        `progress` is called with the number of pairs scored since its last call.
        """
        logits = np.empty(len(queries), np.float32)
        order = np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)
        size = READ_PAIRS if self.settings.token_interaction else max(1, len(order))
        training = self.training
        self.eval()
        for start in range(0, len(order), size):
            pairs = order[start : start + size]
            encoded_queries, query_rows = self._encode_distinct([queries[row] for row in pairs], "query", batch_tokens)
            encoded_items, item_rows = self._encode_distinct([texts[row] for row in pairs], "item", batch_tokens)
            logits[pairs] = self._compare(encoded_queries, query_rows, encoded_items, item_rows)
            if progress:
                progress(len(pairs))
        self.train(training)
        return logits

    @torch.inference_mode()
    def _encode_distinct(
        self, texts: Sequence[str], side: Side, batch_tokens: int | None
    ) -> tuple[EncodedTexts, torch.Tensor]:
        """Return the distinct texts, encoded, and the row of each of `texts` among them, [n]."""
        row_of_text = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        tokens = self.encoder.tokenize(list(row_of_text), side)
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        longest = int(lengths.max()) if self.settings.token_interaction else None
        distinct = EncodedTexts.allocate(len(tokens), longest, self.encoder.dimension, self.device)
        for rows in length_groups(lengths, batch_tokens or self.default_batch_tokens):
            ids, mask = pad([tokens[row] for row in rows], self.encoder.tokenize.pad_id)
            with autocast(self.device, autocast_dtype(self.device)):
                part = self.encode_tokens(ids.to(self.device), None if mask is None else mask.to(self.device), side)
            distinct.fill(torch.from_numpy(rows).to(self.device), part)
        return distinct, torch.tensor([row_of_text[text] for text in texts], device=self.device)

    @torch.inference_mode()
    def _compare(
        self, queries: EncodedTexts, query_rows: torch.Tensor, items: EncodedTexts, item_rows: torch.Tensor
    ) -> Logits:
        """Return the log-odds, [n], of the pairs of `query_rows` and `item_rows`, both [n]."""
        logits = [
            self(queries.take(query_chunk), items.take(item_chunk))
            for query_chunk, item_chunk in zip(
                query_rows.split(COMPARED_PAIRS), item_rows.split(COMPARED_PAIRS), strict=True
            )
        ]
        joined: Logits = torch.cat(logits).cpu().numpy()
        return joined


class RelevanceHead(nn.Module):
    """The logit `a * cos + MLP(features)`, in which an MLP with one hidden layer and GELU corrects the cosine.

    The weights of the last layer start at 0, so that an untrained head ranks like the cosine.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.cosine_weight = nn.Parameter(torch.tensor(COSINE_WEIGHT))
        self.input, self.output = nn.Linear(features, hidden), nn.Linear(hidden, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.constant_(self.output.bias, -COSINE_WEIGHT * NEUTRAL_COSINE)

    def forward(self, features: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
        """Return the logits [n] of `features` [n, f] and `cosines` [n]."""
        correction: torch.Tensor = self.output(functional.gelu(self.input(features)))
        return self.cosine_weight * cosines + correction[:, 0]


def read_relevance_settings(path: str | Path) -> RelevanceModelSettings:
    """Return the settings of the model at `path`. Raises `RaylevanceError` if there is no readable model."""
    with one_line_errors(str(path), "relevance model"):
        return RelevanceModelSettings(**json.loads((Path(path) / SETTINGS).read_text(encoding="utf-8")))


def load_relevance_tokenizer(path: str | Path) -> SideTokenizer:
    """Return the tokenizer of the model at `path`, without its weights. Raises as `RelevanceModel.load` does."""
    read_relevance_settings(path)
    return encoders.load_encoder_tokenizer(Path(path) / ENCODER)
