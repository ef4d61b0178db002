"""The siamese encoder: one transformer (or two), mean pooling, optional query and item heads, unit vectors.

Source: papers.md 2.3 (Mine and Refine): `e = norm(P(Enc(x)))` with a query head and an item head, score `<e_q, e_d>`.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
import transformers
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.models import folder as layout
from raylevance.models.batching import length_groups, pad

Side = Literal["query", "item"]
Vectors = npt.NDArray[np.float32]

ENCODER = "encoder.json"
TOKENIZE_CHUNK = 65_536
BATCH_TOKENS_CPU = 4_096
BATCH_TOKENS_CUDA = 131_072


class EncoderSettings(Settings):
    """What to build an encoder from. `backbone`: a folder or a Hugging Face id."""

    backbone: str
    tied: bool = True
    projection: PositiveInt | None = None
    max_query_tokens: PositiveInt = 32
    max_item_tokens: PositiveInt = 64
    query_prompt: str = ""
    item_prompt: str = ""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """0 is our choice: a step is then the same on any number of workers, and cheaper."""


class Encoder(nn.Module):
    """Texts to unit vectors, queries and items each by their own side.

    A tied encoder saved for sentence-transformers knows one length limit, the longer of the two.
    """

    def __init__(self, settings: EncoderSettings, tokenizer: Any, towers: dict[Side, Any]) -> None:
        """`towers`: a Hugging Face transformer a side, the same object twice where tied."""
        super().__init__()
        self.settings = settings
        self.tokenizer = tokenizer
        self.query_tower = towers["query"]
        self.item_tower = towers["item"]
        self.query_head: nn.Linear | None = None
        self.item_head: nn.Linear | None = None
        hidden = int(self.query_tower.config.hidden_size)
        self.dimension = settings.projection or hidden
        if settings.projection:
            self.query_head, self.item_head = _same_heads(hidden, settings.projection)
        for tower in towers.values():
            if getattr(tower, "pooler", None) is not None:
                tower.pooler.requires_grad_(False)

    @classmethod
    def from_backbone(cls, settings: EncoderSettings) -> Self:
        """A new encoder on `settings.backbone`.

        Raises `RaylevanceError` where the backbone can't be read, or the token limits exceed its positions.
        """
        source = settings.backbone
        with layout.one_line_errors(source):
            tower = layout.read_tower(source, settings.dropout)
            other = tower if settings.tied else layout.read_tower(source, settings.dropout)
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        positions = getattr(tower.config, "max_position_embeddings", None)
        longest = max(settings.max_query_tokens, settings.max_item_tokens)
        if positions and longest > positions:
            raise RaylevanceError(f"{source}: reads {positions} tokens at most, got a limit of {longest}")
        return cls(settings, tokenizer, {"query": tower, "item": other})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The encoder that `save` wrote, or a plain Hugging Face or sentence-transformers folder (or hub id).

        A plain folder is read as tied, pooled by mean, with its own token limit and prompts.
        Raises `RaylevanceError` where `path` is not a readable encoder.
        """
        folder = Path(path)
        if not (folder / ENCODER).is_file():
            return cls.from_backbone(_plain_settings(str(path)))
        with layout.one_line_errors(str(path)):
            settings = EncoderSettings.model_validate_json((folder / ENCODER).read_text(encoding="utf-8"))
            query_path, item_path = _tower_paths(folder, settings.tied)
            query = layout.read_tower(str(query_path), settings.dropout)
            item = query if settings.tied else layout.read_tower(str(item_path), settings.dropout)
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(query_path))
            encoder = cls(settings, tokenizer, {"query": query, "item": item})
            if settings.projection:
                encoder.query_head, encoder.item_head = map(layout.read_head, _head_paths(folder, settings.tied))
        return encoder

    def save(self, path: str | Path) -> None:
        """Write the encoder to the folder `path`, replacing what it holds."""
        folder = Path(path)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        layout.write_json(folder / ENCODER, self.settings.model_dump())
        prompts = {"query": self.settings.query_prompt, "document": self.settings.item_prompt}
        layout.write_json(folder / layout.PROMPTS, {"prompts": prompts, "similarity_fn_name": "cosine"})
        self._save_towers(folder)
        if self.query_head is not None and self.item_head is not None:
            for head_path, head in zip(
                _head_paths(folder, self.settings.tied), (self.query_head, self.item_head), strict=True
            ):
                layout.write_head(head_path, head)

    def _save_towers(self, folder: Path) -> None:
        settings = self.settings
        hidden = int(self.query_tower.config.hidden_size)
        query_path, item_path = _tower_paths(folder, settings.tied)
        dense = ["Dense"] if settings.projection else []
        if settings.tied:
            longest = max(settings.max_query_tokens, settings.max_item_tokens)
            layout.write_tower(folder, self.query_tower, self.tokenizer, longest)
            layout.write_pooling(folder / "1_Pooling", hidden)
            router = [("2_Router", "Router")] if dense else []
            layout.write_modules(
                folder, [("", "Transformer"), ("1_Pooling", "Pooling"), *router, ("3_Normalize", "Normalize")]
            )
            if dense:
                layout.write_router(folder / "2_Router", dense)
            return
        layout.write_tower(query_path, self.query_tower, self.tokenizer, settings.max_query_tokens)
        layout.write_tower(item_path, self.item_tower, self.tokenizer, settings.max_item_tokens)
        for route in layout.ROUTES.values():
            layout.write_pooling(folder / layout.route_module(route, 1, "Pooling"), hidden)
        layout.write_modules(folder, [("", "Router"), ("1_Normalize", "Normalize")])
        layout.write_router(folder, ["Transformer", "Pooling", *dense])

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.query_tower.device)

    def tokenize(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Token ids of each text with the side's prompt, cut at the side's limit."""
        query = side == "query"
        prompt = self.settings.query_prompt if query else self.settings.item_prompt
        limit = self.settings.max_query_tokens if query else self.settings.max_item_tokens
        encoded = self.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return cast(list[list[int]], encoded["input_ids"])

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None, side: Side) -> torch.Tensor:
        """Unit vectors float32 [n, d] of token ids [n, t]; `mask` [n, t] is None where nothing is padded."""
        tower, head = (
            (self.query_tower, self.query_head) if side == "query" else (self.item_tower, self.item_head)
        )
        hidden = tower(input_ids=ids, attention_mask=mask).last_hidden_state
        if mask is None:
            pooled = hidden.mean(dim=1)
        else:
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        projected = pooled if head is None else head(pooled)
        return functional.normalize(projected.float(), dim=-1)

    def encode_queries(self, texts: Sequence[str], **options: Any) -> Vectors:
        """Unit vectors float32 [n, d] of query texts; `options` as in `encode`."""
        return self.encode(texts, "query", **options)

    def encode_items(self, texts: Sequence[str], **options: Any) -> Vectors:
        """Unit vectors float32 [n, d] of item texts; `options` as in `encode`."""
        return self.encode(texts, "item", **options)

    def encode(
        self,
        texts: Sequence[str],
        side: Side,
        *,
        batch_tokens: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Vectors:
        """Unit vectors float32 [n, d], in the order of `texts`.

        `batch_tokens` bounds the tokens, padding included, of one forward pass (default by device: our choice, measured).
        `progress` is called with the number of texts done since its last call.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        training = self.training
        self.eval()
        for start in range(0, len(texts), TOKENIZE_CHUNK):
            chunk = texts[start : start + TOKENIZE_CHUNK]
            self._encode_chunk(chunk, side, batch_tokens, progress, vectors[start : start + len(chunk)])
        self.train(training)
        return vectors

    @torch.inference_mode()
    def _encode_chunk(
        self,
        texts: Sequence[str],
        side: Side,
        batch_tokens: int | None,
        progress: Callable[[int], object] | None,
        out: Vectors,
    ) -> None:
        tokens = self.tokenize(texts, side)
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        for rows in length_groups(lengths, batch_tokens or default_batch_tokens(self.device)):
            ids, mask = pad([tokens[row] for row in rows], self.tokenizer.pad_token_id)
            with autocast(self.device, autocast_dtype(self.device)):
                embedded = self(*on_device(self.device, ids, mask), side)
            out[rows] = embedded.cpu().numpy()
            if progress:
                progress(len(rows))


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the processor computes in it (CUDA, AVX512-BF16, AMX), None (float32) elsewhere.

    Without such instructions bf16 is emulated, and slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Autocast to `dtype`; None computes in float32."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def default_batch_tokens(device: torch.device) -> int:
    """Tokens of one forward pass: about a cache's worth of activations on a CPU, enough to fill a GPU."""
    return BATCH_TOKENS_CUDA if device.type == "cuda" else BATCH_TOKENS_CPU


def on_device(
    device: torch.device, ids: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    return ids.to(device, non_blocking=True), None if mask is None else mask.to(device, non_blocking=True)


def _same_heads(hidden: int, projection: int) -> tuple[nn.Linear, nn.Linear]:
    """Both heads start as one orthogonal map, so that the first scores are near the backbone's own (our choice)."""
    heads = nn.Linear(hidden, projection, bias=False), nn.Linear(hidden, projection, bias=False)
    nn.init.orthogonal_(heads[0].weight, generator=torch.Generator().manual_seed(0))
    heads[1].weight.data.copy_(heads[0].weight.data)
    return heads


def _tower_paths(folder: Path, tied: bool) -> tuple[Path, Path]:
    if tied:
        return folder, folder
    return (
        folder / layout.route_module(layout.ROUTES["query"], 0, "Transformer"),
        folder / layout.route_module(layout.ROUTES["item"], 0, "Transformer"),
    )


def _head_paths(folder: Path, tied: bool) -> tuple[Path, Path]:
    parent, position = (folder / "2_Router", 0) if tied else (folder, 2)
    return (
        parent / layout.route_module(layout.ROUTES["query"], position, "Dense"),
        parent / layout.route_module(layout.ROUTES["item"], position, "Dense"),
    )


def _plain_settings(source: str) -> EncoderSettings:
    """Settings under which a plain folder gives the vectors that sentence-transformers gives."""
    with layout.one_line_errors(source):
        layout.check_pools_by_mean(source)
        tower = layout.read_json(source, layout.TOWER_CONFIG) or {}
        prompts = (layout.read_json(source, layout.PROMPTS) or {}).get("prompts") or {}
        config = transformers.AutoConfig.from_pretrained(source)
        tokenizer_limit = transformers.AutoTokenizer.from_pretrained(source).model_max_length
    positions = getattr(config, "max_position_embeddings", None) or tokenizer_limit
    limit = int(tower.get("max_seq_length") or min(tokenizer_limit, positions))
    return EncoderSettings(
        backbone=source,
        max_query_tokens=limit,
        max_item_tokens=limit,
        query_prompt=prompts.get("query") or "",
        item_prompt=prompts.get("document") or prompts.get("passage") or "",
    )
