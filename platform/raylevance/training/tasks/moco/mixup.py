"""Mix-up at the embedding layer: an anchor's word embeddings with those of another anchor of its side.

Source: Zhang et al. 2018 (arXiv 1710.09412); on word embeddings: Guo et al. 2019 (arXiv 1905.08941). The CIKM 2022
paper (DOI 10.1145/3511808.3557143) names mix-up without details. Our reading of it mixes with another positive of the
same anchor; a row of pairs has one positive, so an anchor is mixed with another anchor of the batch, and its loss with
the loss against that one's keys (our choice).
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
    """`partner` [B]: the place of each anchor's partner, its own where it is alone on its side; `share` [B] float64:
    lam, the anchor's own share, in 0.5..1."""

    partner: Ints
    share: npt.NDArray[np.float64]


def draw_mix(item: npt.NDArray[np.bool_], alpha: float, rng: np.random.Generator) -> Mix:
    """Partners of one side for the B anchors of a batch, and lam ~ Beta(alpha, alpha), folded to max(lam, 1 - lam).

    `item` [B]: whether an anchor is an item. Every anchor is the partner of one.
    """
    partner = np.arange(len(item))
    for side in (False, True):
        shuffled = rng.permutation(np.flatnonzero(item == side))
        partner[shuffled] = np.roll(shuffled, 1)
    share = rng.beta(alpha, alpha, len(item))
    return Mix(partner, np.maximum(share, 1 - share))


@contextmanager
def mixing(
    embedding: nn.Module, partners: Sequence[Tokens], share: torch.Tensor, width: int, pad_id: int
) -> Iterator[None]:
    """Inside the block `embedding` gives, for token ids [n, width], lam * e_a + (1 - lam) * e_b.

    `partners` [n] are the texts b, `share` [n] is lam. Place is mixed with place; a longer b is cut, and where b has
    ended e_a stays as it is (our choice), so the mixed text is as long as a.
    """
    ids, mask = pad([text[:width] for text in partners], pad_id)
    beyond = width - ids.shape[1]
    real = torch.ones_like(ids) if mask is None else mask
    ids, real = ids.to(share.device), functional.pad(real, (0, beyond)).to(share.device)
    weight = ((1 - share)[:, None] * real).unsqueeze(-1)

    def mix(module: nn.Module, arguments: object, own: torch.Tensor) -> torch.Tensor:
        other = functional.pad(module.forward(ids), (0, 0, 0, beyond))
        return torch.lerp(own, other, weight.to(own.dtype))

    handle = embedding.register_forward_hook(mix)
    try:
        yield
    finally:
        handle.remove()
