"""Texts of a batch in groups of similar length, so that little is computed on padding and memory is bounded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raylevance.models.batching import length_groups, pad
from raylevance.models.encoder import Encoder
from raylevance.models.precision import autocast
from raylevance.models.tokenizer import Side
from raylevance.training.token_file import Tokens


@dataclass(frozen=True)
class ForwardOptions:
    """How texts are passed through an encoder. Only `autocast_dtype` changes the result by more than rounding.

    - `batch_tokens`: tokens of one forward pass, padding included.
    - `gradcache_chunk`: texts whose autograd graph GradCache holds at once; None holds the graph of all texts.
    - `autocast_dtype`: number format of the forward pass, None for float32.
    """

    batch_tokens: int
    gradcache_chunk: int | None = None
    autocast_dtype: torch.dtype | None = None


@dataclass(frozen=True)
class TextGroup:
    """Texts of one side and of similar length.

    `rows` [n] int64 are the positions of the texts in their batch. `ids` [n, t] are token ids, and `mask` [n, t] is 1
    for a token and 0 for padding, or None where nothing is padded.
    """

    side: Side
    rows: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor | None


def text_groups(
    encoder: Encoder, texts: Sequence[Tokens], side: Side, first_row: int, options: ForwardOptions
) -> Iterator[TextGroup]:
    """Group the texts [n] of one side, which are the rows `first_row` to `first_row + n - 1` of a batch.

    The group with the longest texts comes first.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    for rows in length_groups(lengths, options.batch_tokens, options.gradcache_chunk):
        ids, mask = padded([texts[row] for row in rows], encoder.tokenize.pad_id, encoder.device)
        yield TextGroup(side, torch.from_numpy(rows + first_row).to(encoder.device), ids, mask)


def padded(texts: Sequence[Tokens], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the token ids [n, t] of texts on `device`, and their mask [n, t], as `models.batching.pad` makes them."""
    ids, mask = pad(texts, pad_id)
    return ids.to(device), None if mask is None else mask.to(device)


def embed_group(encoder: Encoder, group: TextGroup, options: ForwardOptions) -> torch.Tensor:
    """Return the unit vectors [n, d] float32 of the texts of a group."""
    with autocast(encoder.device, options.autocast_dtype):
        vectors: torch.Tensor = encoder(group.ids, group.mask, group.side)
    return vectors


def in_batch_order(encoder: Encoder, groups: Sequence[TextGroup], vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the vectors of all groups in the order of the batch's rows.

    Without groups the result is empty but has a gradient, so that a worker without rows takes part in the backward
    pass.
    """
    if not groups:
        return torch.zeros(0, encoder.dimension, device=encoder.device, requires_grad=True)
    return torch.cat(list(vectors))[torch.cat([group.rows for group in groups]).argsort()]
