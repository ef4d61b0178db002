"""The item encoder: features of an item, and attention over its sampled neighbours.

    e_v  = MLP([id; category; brand; price; text])
    a_vu = softmax_u( LeakyReLU( w^T [W e_v; W e_u] ) )
    h_v  = norm( W_o [e_v; sum_u a_vu W e_u] )

Triggers and candidates have one encoder. An item without an id or without neighbours gets a vector from what is left.

Source: GCL-MO (arXiv 2307.04322): attention over neighbours; the formula is our reading.
"""

import json
import warnings
from pathlib import Path
from typing import Any, Optional, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import safetensors.torch
import torch
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.models.item_features import PRICE, ItemVocabulary

WEIGHTS, SETTINGS, VOCABULARY = "model.safetensors", "item_encoder.json", "vocabulary.json"
NEGATIVE_SLOPE = 0.2
"""The slope of LeakyReLU below 0 (our choice, after GAT)."""

with warnings.catch_warnings():
    # Importing the package compiles classes of its own with torch.jit, which is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import MessagePassing
    from torch_geometric.utils import softmax


class ItemEncoderSettings(Settings):
    """The size of an item encoder, and which features it reads."""

    dimension: PositiveInt = 64
    """Entries of an item's vector."""
    ids: bool = True
    """Learn a vector for each item, which is read where the item has events. Without it, items with equal features are
    told apart by their neighbours alone."""
    id_rows: PositiveInt = 1_000_000
    """The most vectors of ids; where there are more items, those of equal remainder share one."""
    category: bool = True
    """Read the category."""
    brand: bool = True
    """Read the brand."""
    price: bool = True
    """Read the price, in buckets of equal size."""
    text: str | None = None
    """The encoder that makes a vector of each title and category, such as minilm or encoder/NAME; null reads none."""
    neighbours: bool = True
    """Read the neighbours. Without them an item is what its features say."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the hidden entries of the MLP that are dropped in training; drawn by each worker for itself."""


class NeighbourAttention(MessagePassing):  # type: ignore[misc]
    """Attention over neighbours, with torch-geometric's conventions: row 0 of `edge_index` is the source."""

    def __init__(self, dimension: int) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.transform = nn.Linear(dimension, dimension, bias=False)
        self.attention = nn.Linear(2 * dimension, 1, bias=False)
        self.output = nn.Linear(2 * dimension, dimension)

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, edge_weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return W_o [e_v; sum_u a_vu W e_u] of each node, [nodes, d].

        `x` [nodes, d] are e, and `edge_index` int64 [2, edges] goes from a neighbour u to the node v that hears it.
        `edge_weight` [edges], above 0, multiplies the attention before it is normalised: sampling neighbours by weight
        needs none, and reading all neighbours with their weights is what that sampling estimates.
        """
        transformed = self.transform(x)
        heard = self.propagate(
            edge_index, transformed=transformed, edge_weight=edge_weight, size=(x.shape[0], x.shape[0])
        )
        output: torch.Tensor = self.output(torch.cat([x, heard], dim=1))
        return output

    def message(
        self,
        transformed_i: torch.Tensor,
        transformed_j: torch.Tensor,
        edge_weight: Optional[torch.Tensor],  # noqa: UP045 (torch-geometric reads no X | None)
        index: torch.Tensor,
        ptr: Optional[torch.Tensor],  # noqa: UP045
        size_i: Optional[int],  # noqa: UP045
    ) -> torch.Tensor:
        """Return a_vu W e_u of each edge, [edges, d]."""
        both = torch.cat([transformed_i, transformed_j], dim=1)
        logits = functional.leaky_relu(self.attention(both), NEGATIVE_SLOPE)
        if edge_weight is not None:
            logits = logits + edge_weight.log()[:, None]
        attention: torch.Tensor = softmax(logits, index, ptr, size_i)
        return attention * transformed_j


class ItemEncoder(nn.Module):
    """Makes unit vectors of items from their features and neighbours."""

    def __init__(self, settings: ItemEncoderSettings, vocabulary: ItemVocabulary, items: int, text_size: int) -> None:
        """Build an untrained encoder for `items` items, whose texts have `text_size` entries, 0 without texts."""
        super().__init__()
        self.settings, self.vocabulary, self.items, self.text_size = settings, vocabulary, items, text_size
        d = settings.dimension
        self.id_rows = min(items, settings.id_rows) if settings.ids else 0
        if self.id_rows:
            self.ids = nn.Embedding(self.id_rows + 1, d)
        reads = (settings.category, settings.brand, settings.price)
        self.read = [column for column, used in enumerate(reads) if used and vocabulary.sizes[column] > 1]
        self.features = nn.ModuleList(nn.Embedding(vocabulary.sizes[column], d) for column in self.read)
        for table in [*self.features, *([self.ids] if self.id_rows else [])]:
            nn.init.normal_(table.weight, std=d**-0.5)
        self.text = nn.Linear(text_size, d) if text_size else None
        parts = bool(self.id_rows) + len(self.read) + bool(text_size)
        told_apart = parts - (PRICE in self.read and not vocabulary.price_cuts)
        if not told_apart:
            raise RaylevanceError("the item encoder reads no feature that the items have; switch on ids or another one")
        self.mlp = nn.Sequential(
            nn.Linear(parts * d, 2 * d), nn.ReLU(), nn.Dropout(settings.dropout), nn.Linear(2 * d, d)
        )
        self.neighbours = NeighbourAttention(d)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def embed(self, ids: torch.Tensor, features: torch.Tensor, texts: torch.Tensor | None) -> torch.Tensor:
        """Return e of nodes from their features alone, [n, d].

        - `ids`: the item's number plus 1, 0 for an item without one, int64 [n].
        - `features`: as `ItemVocabulary.numbers` returns them, int64 [n, 3].
        - `texts`: vectors of their texts, [n, text_size]; None without texts.
        """
        parts = []
        if self.id_rows:
            parts.append(self.ids(torch.where(ids > 0, (ids - 1) % self.id_rows + 1, 0)))
        parts += [table(features[:, column]) for column, table in zip(self.read, self.features, strict=True)]
        if self.text is not None:
            assert texts is not None, "the encoder reads texts"
            parts.append(self.text(texts))
        embedded: torch.Tensor = self.mlp(torch.cat(parts, dim=1))
        return embedded

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, edge_weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the unit vectors h of nodes, [nodes, d], from their e, which is `x`, and their edges.

        The arguments are those of `NeighbourAttention.forward`.
        """
        return functional.normalize(self.neighbours(x, edge_index, edge_weight), dim=1)

    @torch.no_grad()
    def new_vectors(self, products: pa.Table, texts: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Return the unit vectors of products that are not in the graph, float32 [n, d], from their features alone.

        `products` has category, brand and price; `texts` are the vectors of their texts, where the encoder reads texts.
        """
        features = torch.from_numpy(self.vocabulary.numbers(products)).to(self.device)
        vectors = None if texts is None else torch.from_numpy(texts).to(self.device)
        x = self.embed(torch.zeros(len(features), dtype=torch.int64, device=self.device), features, vectors)
        no_edges = torch.empty(2, 0, dtype=torch.int64, device=self.device)
        return np.asarray(self(x, no_edges).cpu().numpy(), np.float32)

    def save(self, folder: Path) -> None:
        """Write the encoder to `folder` as safetensors and JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(self.state_dict(), folder / WEIGHTS)
        described: dict[str, Any] = {"items": self.items, "text_size": self.text_size}
        values = {**described, "settings": self.settings.model_dump(mode="json")}
        (folder / SETTINGS).write_text(json.dumps(values, indent=1), encoding="utf-8")
        self.vocabulary.save(folder / VOCABULARY)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the encoder in `folder`. Raises `RaylevanceError` if a file is missing."""
        missing = [name for name in (WEIGHTS, SETTINGS, VOCABULARY) if not (folder / name).is_file()]
        if missing:
            raise RaylevanceError(f"{folder}: not an item encoder: {missing[0]} is missing")
        values = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        settings = ItemEncoderSettings.model_validate(values["settings"])
        encoder = cls(settings, ItemVocabulary.load(folder / VOCABULARY), values["items"], values["text_size"])
        encoder.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
        return encoder
