"""Texts of one length go together: almost no arithmetic is spent on padding."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

TokenIds = Sequence[int] | npt.NDArray[np.int32]

BATCH_TOKENS = {"cpu": 2_048, "cuda": 131_072}


def default_batch_tokens(device: torch.device) -> int:
    """Tokens of one forward pass: a cache's worth of activations on a CPU, enough to fill a GPU (measured)."""
    return BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])


def length_groups(
    lengths: npt.NDArray[np.integer], batch_tokens: int, max_texts: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Rows of `lengths` [n] sorted by length and cut so that rows x longest <= `batch_tokens` (one row at least).

    The longest group comes first, so memory peaks at once. `max_texts` also bounds the rows of a group.
    """
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    groups = []
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        end = start + min(rows, max_texts or rows)
        groups.append(order[start:end])
        start = end
    return groups


def pad(texts: Sequence[TokenIds], pad_id: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Token ids [n, longest] int64, and their mask [n, longest] (1 token, 0 padding), None where nothing is padded."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    real = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(real.shape, pad_id, np.int64)
    ids[real] = np.concatenate([np.asarray(text, np.int64) for text in texts])
    return torch.from_numpy(ids), None if real.all() else torch.from_numpy(real.astype(np.int64))
