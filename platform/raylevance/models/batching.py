"""Batch texts of similar length, so that little computation is spent on padding."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

TokenIds = Sequence[int] | npt.NDArray[np.int32]

BATCH_TOKENS = {"cpu": 2_048, "cuda": 131_072}
"""Tokens in one forward pass by type of device. The activations fit into a CPU's cache, or fill a GPU (measured)."""


def default_batch_tokens(device: torch.device) -> int:
    """Return the number of tokens, padding included, of one forward pass on `device`."""
    return BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])


def length_groups(
    lengths: npt.NDArray[np.integer], batch_tokens: int, max_texts: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Divide the rows of `lengths` [n] into groups of similar length, with at most `batch_tokens` tokens each.

    The tokens of a group are its rows times its longest length, so padding counts. A group has at least one row, and at
    most `max_texts`. The group with the longest texts comes first, so that memory use peaks at the start.
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
    """Return padded token ids, int64 [n, longest], and their mask, int64 [n, longest]: 1 for tokens, 0 for padding.

    The mask is None if no text needs padding.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    is_token = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(is_token.shape, pad_id, np.int64)
    ids[is_token] = np.concatenate([np.asarray(text, np.int64) for text in texts])
    return torch.from_numpy(ids), None if is_token.all() else torch.from_numpy(is_token.astype(np.int64))
