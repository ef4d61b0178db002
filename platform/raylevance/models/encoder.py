"""The siamese encoder: one or two transformers, mean pooling, optional query and item heads, unit vectors.

Source: Mine and Refine (arXiv 2602.17654): `e = norm(P(Enc(x)))` with a head P for each side, and score `<e_q, e_d>`.
"""

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional

from raylevance.config import FolderOrName, Settings
from raylevance.errors import RaylevanceError
from raylevance.hugging_face import one_line_errors
from raylevance.models import encoder_folder as layout
from raylevance.models.batching import default_batch_tokens, length_groups, pad
from raylevance.models.precision import autocast, autocast_dtype
from raylevance.models.token_limit import longest_input, read_tokenizer, token_limit
from raylevance.models.tokenizer import Side, SideTokenizer

Vectors = npt.NDArray[np.float32]

ENCODER = "encoder.json"
TOKENIZE_CHUNK = 65_536
SHORT_TEXT = 128
"""Up to this many tokens, attention is trained by plain matrix products on a CPU (measured, decision 0022)."""


class EncoderSettings(Settings):
    """The backbone of an encoder, and what is added to it."""

    backbone: FolderOrName
    """The folder or the Hugging Face id of the transformer to start from. A folder is stored as its absolute path."""

    tied: bool = True
    """Use one transformer for queries and items. False gives each side its own copy."""

    projection: PositiveInt | None = None
    """The dimension that a linear head for each side projects vectors to. None adds no heads."""

    max_query_tokens: PositiveInt = 32
    """The number of tokens that a query is cut to."""

    max_item_tokens: PositiveInt = 64
    """The number of tokens that an item's text is cut to."""

    query_prompt: str = ""
    """The text put before each query."""

    item_prompt: str = ""
    """The text put before each item's text."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The dropout probability in training. With 0, our choice, a step is the same on any number of workers."""


class Encoder(nn.Module):
    """An encoder of queries and items into unit vectors of one space.

    sentence-transformers has only one token limit for a tied encoder, so it cuts queries at the longer limit of both.
    """

    def __init__(self, settings: EncoderSettings, tokenizer: SideTokenizer, towers: dict[Side, Any]) -> None:
        """Build an encoder from `towers`, a Hugging Face transformer for each side (tied: the same one twice)."""
        super().__init__()
        self.settings = settings
        self.tokenize = tokenizer
        self.query_tower = towers["query"]
        self.item_tower = towers["item"]
        hidden = int(self.query_tower.config.hidden_size)
        self.dimension = settings.projection or hidden
        self.query_head: nn.Linear | None = None
        self.item_head: nn.Linear | None = None
        if settings.projection:
            self.query_head, self.item_head = _equal_heads(hidden, settings.projection)
        for tower in towers.values():
            if getattr(tower, "pooler", None) is not None:
                tower.pooler.requires_grad_(False)

    @classmethod
    def from_backbone(cls, settings: EncoderSettings) -> Self:
        """Return a new encoder on `settings.backbone`.

        Raises `RaylevanceError` if the backbone can't be read, if it is no encoder of text, or if a token limit exceeds
        the number of tokens that it reads.
        """
        source = settings.backbone
        with one_line_errors(source, "encoder"):
            query = layout.read_tower(source, settings.dropout)
            item = query if settings.tied else layout.read_tower(source, settings.dropout)
            encoder = cls(settings, _side_tokenizer(settings, source), {"query": query, "item": item})
            encoder._check_that_it_reads_text()
        _check_positions(settings, query.config)
        return encoder

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the encoder that `save` wrote, or one from a Hugging Face or sentence-transformers folder or hub id.

        A folder that `save` did not write becomes a tied encoder with mean pooling and its own token limit and prompts.
        The limit is the least of those of the folder, its tokenizer and the model, or 512 if none of them states one.

        Raises `RaylevanceError` if `path` is not a readable encoder.
        """
        settings = read_encoder_settings(path)
        folder = Path(path)
        if not (folder / ENCODER).is_file():
            return cls.from_backbone(settings)
        with one_line_errors(str(path), "encoder"):
            query = layout.read_tower(layout.tower_path(folder, "query", settings.tied), settings.dropout)
            item = query
            if not settings.tied:
                item = layout.read_tower(layout.tower_path(folder, "item", settings.tied), settings.dropout)
            encoder = cls(settings, load_encoder_tokenizer(path), {"query": query, "item": item})
            if settings.projection:
                encoder.query_head = layout.read_head(layout.head_path(folder, "query", settings.tied))
                encoder.item_head = layout.read_head(layout.head_path(folder, "item", settings.tied))
            encoder._check_that_it_reads_text()
        return encoder

    def with_two_towers(self) -> Self:
        """Return this encoder with a separate tower for each side, which training can change independently.

        The vectors are the same. The query tower is shared with this encoder, the item tower is a copy.
        """
        towers: dict[Side, Any] = {"query": self.query_tower, "item": copy.deepcopy(self.item_tower)}
        encoder = type(self)(self.settings.model_copy(update={"tied": False}), self.tokenize, towers)
        encoder.query_head, encoder.item_head = self.query_head, self.item_head
        return encoder

    def prepare_for_training(self, dtype: torch.dtype | None) -> None:
        """Compute attention in training by plain matrix products where these are faster than PyTorch's fused kernel.

        That is so for texts of up to `SHORT_TEXT` tokens in bfloat16 on a CPU. The results differ by rounding. The
        encoder computes so from then on, also where it only encodes, as for the metrics of a training.
        `dtype` is the number format of the forward pass, None for float32.
        """
        longest = max(self.tokenize.limits.values())
        if self.device.type == "cpu" and dtype is torch.bfloat16 and longest <= SHORT_TEXT:
            for tower in (self.query_tower, self.item_tower):
                tower.set_attn_implementation("eager")

    def save(self, path: str | Path) -> None:
        """Write the encoder to the folder `path`, and delete what was in the folder before."""
        folder, settings = Path(path), self.settings
        shutil.rmtree(folder, ignore_errors=True)
        layout.write_json(folder / ENCODER, settings.model_dump())
        prompts = {"query": settings.query_prompt, "document": settings.item_prompt}
        layout.write_json(folder / layout.PROMPTS, {"prompts": prompts, "similarity_fn_name": "cosine"})
        limits = self.tokenize.limits
        towers: list[tuple[Side, Any]] = [("query", self.query_tower), ("item", self.item_tower)]
        for side, tower in towers[:1] if settings.tied else towers:
            limit = max(limits.values()) if settings.tied else limits[side]
            layout.write_tower(layout.tower_path(folder, side, settings.tied), tower, self.tokenize.tokenizer, limit)
        if self.query_head is not None and self.item_head is not None:
            layout.write_head(layout.head_path(folder, "query", settings.tied), self.query_head)
            layout.write_head(layout.head_path(folder, "item", settings.tied), self.item_head)
        write_layout = layout.write_tied_layout if settings.tied else layout.write_untied_layout
        write_layout(folder, int(self.query_tower.config.hidden_size), heads=settings.projection is not None)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return cast(torch.device, self.query_tower.device)

    @property
    def default_batch_tokens(self) -> int:
        """The number of tokens, padding included, of one forward pass on this device."""
        return default_batch_tokens(self.device)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None, side: Side) -> torch.Tensor:
        """Return unit vectors, float32 [n, d], of token ids [n, t]. `mask` [n, t] is None if nothing is padded."""
        is_query = side == "query"
        tower, head = (self.query_tower, self.query_head) if is_query else (self.item_tower, self.item_head)
        hidden = tower(input_ids=ids, attention_mask=mask).last_hidden_state
        if mask is None:
            pooled = hidden.mean(dim=1)
        else:
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        projected = pooled if head is None else head(pooled)
        return functional.normalize(projected.float(), dim=-1)

    def encode_queries(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Vectors:
        """Return unit vectors, float32 [n, d], of query texts. The options are those of `encode`."""
        return self.encode(texts, "query", batch_tokens=batch_tokens, progress=progress)

    def encode_items(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Vectors:
        """Return unit vectors, float32 [n, d], of item texts. The options are those of `encode`."""
        return self.encode(texts, "item", batch_tokens=batch_tokens, progress=progress)

    def encode(
        self,
        texts: Sequence[str],
        side: Side,
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Vectors:
        """Return unit vectors, float32 [n, d], in the order of `texts`.

        `batch_tokens` limits the tokens, padding included, of one forward pass; None takes `default_batch_tokens`.
        `progress` is called with the number of texts encoded since its last call.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        training = self.training
        if training:  # For one text, a walk through all modules takes as long as one of their layers.
            self.eval()
        for start in range(0, len(texts), TOKENIZE_CHUNK):
            tokens = self.tokenize(texts[start : start + TOKENIZE_CHUNK], side)
            lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
            for rows in length_groups(lengths, batch_tokens or self.default_batch_tokens):
                vectors[start + rows] = self._encode_group([tokens[row] for row in rows], side)
                if progress:
                    progress(len(rows))
        if training:
            self.train()
        return vectors

    @torch.inference_mode()
    def _check_that_it_reads_text(self) -> None:
        """Encode a text on each side, which finds tokenizers and models that do not belong together.

        Raises `ValueError` if they do not.
        """
        rows = self.item_tower.get_input_embeddings().num_embeddings
        if (highest := max(self.tokenize.tokenizer.get_vocab().values())) >= rows:
            raise ValueError(f"its tokenizer has the token id {highest}, and the model only {rows} tokens")
        sides: tuple[Side, ...] = ("query", "item")
        for side in sides:
            if not torch.isfinite(self(torch.tensor(self.tokenize(["1"], side)), None, side)).all():
                raise ValueError("its vectors are not finite numbers")

    @torch.inference_mode()
    def _encode_group(self, tokens: list[list[int]], side: Side) -> Vectors:
        ids, mask = pad(tokens, self.tokenize.pad_id)
        with autocast(self.device, autocast_dtype(self.device)):
            vectors = self(ids.to(self.device), None if mask is None else mask.to(self.device), side)
        return cast(Vectors, vectors.cpu().numpy())


def prepare_encoders(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Prepare every encoder inside `model` for training in the number format `dtype`, None for float32."""
    for part in model.modules():
        if isinstance(part, Encoder):
            part.prepare_for_training(dtype)


def read_encoder_settings(path: str | Path) -> EncoderSettings:
    """Return the settings of the encoder at `path`, without reading its weights.

    If `Encoder.save` did not write the folder, the settings reproduce the vectors of sentence-transformers.

    Raises `RaylevanceError` if `path` is not a readable encoder.
    """
    file, source = Path(path) / ENCODER, str(path)
    with one_line_errors(source, "encoder"):
        if file.is_file():
            return EncoderSettings.model_validate_json(file.read_text(encoding="utf-8"))
        layout.check_pools_by_mean(source)
        tower = layout.read_json(source, layout.TOWER_CONFIG) or {}
        prompts = (layout.read_json(source, layout.PROMPTS) or {}).get("prompts") or {}
        config = layout.read_encoder_config(source)
        limit = token_limit(config, read_tokenizer(source), tower.get("max_seq_length"))
    return EncoderSettings(
        backbone=source,
        max_query_tokens=limit,
        max_item_tokens=limit,
        query_prompt=prompts.get("query") or "",
        item_prompt=prompts.get("document") or prompts.get("passage") or "",
    )


def check_encoder_settings(settings: EncoderSettings) -> None:
    """Raise the errors of `Encoder.from_backbone` that can be found without reading weights."""
    read_encoder_settings(settings.backbone)
    with one_line_errors(settings.backbone, "encoder"):
        config = layout.read_encoder_config(settings.backbone)
    _check_positions(settings, config)


def _check_positions(settings: EncoderSettings, config: Any) -> None:
    limit, longest = longest_input(config), max(settings.max_query_tokens, settings.max_item_tokens)
    if limit is not None and longest > limit:
        raise RaylevanceError(f"{settings.backbone}: reads {limit} tokens at most, got a limit of {longest}")


def load_encoder_tokenizer(path: str | Path) -> SideTokenizer:
    """Return the tokenizer of the encoder at `path`, without reading its weights. Raises as `Encoder.load` does."""
    settings = read_encoder_settings(path)
    is_own = (Path(path) / ENCODER).is_file()
    source = layout.tower_path(Path(path), "query", settings.tied) if is_own else path
    with one_line_errors(str(path), "encoder"):
        return _side_tokenizer(settings, str(source))


def _side_tokenizer(settings: EncoderSettings, source: str) -> SideTokenizer:
    return SideTokenizer(
        read_tokenizer(source),
        prompts={"query": settings.query_prompt, "item": settings.item_prompt},
        limits={"query": settings.max_query_tokens, "item": settings.max_item_tokens},
    )


def _equal_heads(hidden: int, projection: int) -> tuple[nn.Linear, nn.Linear]:
    """Return two equal orthogonal maps, so that the first scores are close to those of the backbone (our choice)."""
    heads = nn.Linear(hidden, projection, bias=False), nn.Linear(hidden, projection, bias=False)
    nn.init.orthogonal_(heads[0].weight, generator=torch.Generator().manual_seed(0))
    heads[1].weight.data.copy_(heads[0].weight.data)
    return heads
