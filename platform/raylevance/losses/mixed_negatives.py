"""Hard negatives that do not exist: a near negative mixed with a positive of its anchor.

Source: MGDSPR (Li et al. 2021, arXiv 2106.09297), where random negatives are mixed with the positive, with shares from
0.4 to 0.6, and the nearest to the query are taken. Mixing the nearest ones is our choice.
"""

import torch

LOWEST_SHARE, HIGHEST_SHARE = 0.4, 0.6
"""The share of the positive in a mix (MGDSPR)."""


def mixed_negatives(
    cosines: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, draws: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the products of each anchor t with its mixed negatives, and their weights, [anchors, m] each:

        t . ( c p + (1 - c) n ) = c s_tp + (1 - c) s_tn

    where n are the m nearest negatives of t, each mixed with a positive p that is drawn by its weight. The mix is not
    scaled to unit length, so it needs no vector of its own.

    - `cosines`: s, [anchors, candidates], m candidates at least.
    - `positives`, `negatives`: the weight of each candidate among them, 0 where it is none, [anchors, candidates].
    - `draws`: numbers in [0, 1) that decide the share c and the positive of each mix, [anchors, m, 2].

    A mix has the weight of its negative, and 0 where the anchor has no positive or no further negative. It holds a
    share of a positive, so as a negative it also pushes the anchor from that positive a little.
    """
    masked = cosines.detach().masked_fill(negatives <= 0, -torch.inf)
    nearest = masked.topk(draws.shape[1], dim=1).indices
    cumulative = positives.cumsum(dim=1)
    total = cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, draws[..., 1] * total, right=True).clamp(max=cosines.shape[1] - 1)
    share = LOWEST_SHARE + (HIGHEST_SHARE - LOWEST_SHARE) * draws[..., 0]
    mixed = share * cosines.gather(1, drawn) + (1 - share) * cosines.gather(1, nearest)
    return mixed, negatives.gather(1, nearest) * (total > 0)
