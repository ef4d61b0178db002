"""Mix-up of word embeddings: an anchor's embeddings are mixed with those of another anchor of its side.

Source: Zhang et al. 2018 (arXiv 1710.09412), and Guo et al. 2019 (arXiv 1905.08941) for word embeddings. The CIKM 2022
paper (DOI 10.1145/3511808.3557143) names mix-up without details. In our reading it mixes with another positive of the
same anchor. A row of pairs has only one positive, so an anchor is mixed with another anchor of the batch, and its loss
with the loss against the keys of that one (our choice).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from raylevance.models.batching import pad
from raylevance.training.token_file import Ints, Tokens


@dataclass(frozen=True)
class Mix:
    """Which anchors of a batch are mixed, and how much.

    - `partner` [B] int64: index of the anchor that each anchor is mixed with; its own if no other is on its side.
    - `share` [B] float64: lam, the share of the anchor itself, from 0.5 to 1.
    """

    partner: Ints
    share: npt.NDArray[np.float64]


def draw_mix(is_item: npt.NDArray[np.bool_], alpha: float, rng: np.random.Generator) -> Mix:
    """Draw a partner of the same side for each anchor, and shares from Beta(alpha, alpha), folded to max(lam, 1 - lam).

    `is_item` [B] says which anchors are items. Every anchor is the partner of exactly one.
    """
    partner = np.arange(len(is_item))
    for side in (False, True):
        shuffled = rng.permutation(np.flatnonzero(is_item == side))
        partner[shuffled] = np.roll(shuffled, 1)
    share = rng.beta(alpha, alpha, len(is_item))
    return Mix(partner, np.maximum(share, 1 - share))


@contextmanager
def mixing(
    embedding: nn.Module, partners: Sequence[Tokens], share: torch.Tensor, width: int, pad_id: int
) -> Iterator[None]:
    """Inside the block, make `embedding` return lam * e_a + (1 - lam) * e_b for token ids [n, width] of texts a.

    `partners` [n] are the texts b, and `share` [n] is lam. Tokens are mixed by their position. A longer b is cut; after
    the end of a shorter b, e_a is unchanged (our choice). The mixed text is therefore as long as a.
    """
    ids, mask = pad([text[:width] for text in partners], pad_id)
    missing = width - ids.shape[1]
    is_token = torch.ones_like(ids) if mask is None else mask
    ids, is_token = ids.to(share.device), functional.pad(is_token, (0, missing)).to(share.device)
    weight = ((1 - share)[:, None] * is_token).unsqueeze(-1)

    def mix(module: nn.Module, arguments: object, own: torch.Tensor) -> torch.Tensor:
        other = functional.pad(module.forward(ids), (0, 0, 0, missing))
        return torch.lerp(own, other, weight.to(own.dtype))

    handle = embedding.register_forward_hook(mix)
    try:
        yield
    finally:
        handle.remove()
