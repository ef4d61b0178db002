"""Momentum contrast: losses of anchors against keys, hard negatives, and the centroids of clusters."""

import torch
from torch.nn import functional

from raylevance.losses.segments import segment_logsumexp


def instance_loss(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    queue: torch.Tensor,
    excluded_keys: torch.Tensor,
    hard_negatives: torch.Tensor,
    hard_negative_anchors: torch.Tensor,
    *,
    temperature: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the sum over anchors, each times its weight w, of

        L = -log( exp(z.k+ / T) / ( exp(z.k+ / T) + sum_{k in queue} exp(z.k / T) + sum_{h in hard} exp(z.h / T) ) )

    where the queue is without the keys excluded for the anchor, and the hard negatives are the anchor's own.

    - `anchors`: Unit vectors z, [B, d].
    - `positives`: Unit vector k+ of each anchor's positive key, [B, d].
    - `queue`: Unit vectors k of the queued keys, [K, d]. K may be 0.
    - `excluded_keys`: Whether a queued key must not count as a negative of an anchor, bool [B, K].
    - `hard_negatives`: Unit vectors h of the hard negatives of all anchors, [H, d]. H may be 0.
    - `hard_negative_anchors`: Row of the anchor of each hard negative, int64 [H], in any order.
    - `temperature`: T.
    - `weight`: w, [B]. None means 1.

    Returns a scalar.

    Source: MoCo (He et al. 2020, arXiv 1911.05722), eq. 1. The term of the hard negatives is our choice, because the
    CIKM 2022 paper (DOI 10.1145/3511808.3557143) names momentum contrast without a formula.
    """
    own = (anchors * positives).sum(dim=-1) / temperature
    queued = (anchors @ queue.T / temperature).masked_fill(excluded_keys, -torch.inf)
    total = torch.cat([own[:, None], queued], dim=1).logsumexp(dim=1)
    hard_scores = (anchors[hard_negative_anchors] * hard_negatives).sum(dim=-1) / temperature
    anchor_ids = torch.arange(len(anchors), device=hard_negative_anchors.device)
    segment_ids = torch.cat([anchor_ids, hard_negative_anchors])
    terms = torch.cat([total, hard_scores])
    every_term = torch.ones_like(segment_ids, dtype=torch.bool)
    denominator = segment_logsumexp(terms, segment_ids, every_term)[: len(anchors)]
    return _weighted_sum(denominator - own, weight)


def cluster_loss(
    anchors: torch.Tensor,
    own_centroid: torch.Tensor,
    centroids: torch.Tensor,
    excluded_centroids: torch.Tensor,
    *,
    temperature: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the sum over anchors, each times its weight w, of

        L = -log( exp(z.c+ / T) / ( exp(z.c+ / T) + sum_{c-} exp(z.c- / T) ) )

    where c+ is the centroid of the anchor's own cluster, and c- runs over the others without the excluded ones.

    - `anchors`: Unit vectors z, [A, d]. A may be 0.
    - `own_centroid`: Row of c+ in `centroids`, int64 [A].
    - `centroids`: Unit vectors of the centroids of the batch and of the queue, [C, d].
    - `excluded_centroids`: Whether a centroid must not count as a negative of an anchor, bool [A, C]. Ignored at c+.
    - `temperature`: T.
    - `weight`: w, [A]. None means 1.

    Returns a scalar.

    Source: the CIKM 2022 paper (DOI 10.1145/3511808.3557143) names the objective; the formula is our choice.
    """
    own = functional.one_hot(own_centroid, len(centroids)).bool()
    logits = (anchors @ centroids.T / temperature).masked_fill(excluded_centroids & ~own, -torch.inf)
    return _weighted_sum(functional.cross_entropy(logits, own_centroid, reduction="none"), weight)


def _weighted_sum(losses: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return losses.sum() if weight is None else (weight * losses).sum()
