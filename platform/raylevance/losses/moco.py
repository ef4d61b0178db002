"""Momentum contrast: an anchor against one key, a queue of others, hard negatives, and the centroids of clusters."""

import torch
from torch.nn import functional

from raylevance.losses.segments import segment_logsumexp


def instance_loss(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    queue: torch.Tensor,
    known: torch.Tensor,
    hard: torch.Tensor,
    owner: torch.Tensor,
    *,
    temperature: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum over anchors, times their weights w, of

        L = -log( exp(z.k+ / T) / ( exp(z.k+ / T) + sum_{k in queue} exp(z.k / T) + sum_{h in hard} exp(z.h / T) ) )

    where the queue is without the keys known to be no negatives, and the hard negatives are the anchor's own.
    Source: MoCo (He et al. 2020, arXiv 1911.05722), eq. 1; the term of the hard negatives: our choice, since the paper
    on weak supervision by a graph (CIKM 2022) that names momentum contrast prints no formula.

    Unit vectors: `anchors` z and `positives` k+ [B, d], `queue` [K, d], `hard` h [H, d] with `owner` [H] int64 in
    0..B-1 (any order); K and H may be 0. `known` [B, K] bool: true where a key of the queue is no negative.
    `temperature` T; `weight` w [B], None: 1. Returns a scalar.
    """
    own = (anchors * positives).sum(dim=-1) / temperature
    queued = (anchors @ queue.T / temperature).masked_fill(known, -torch.inf)
    total = torch.cat([own[:, None], queued], dim=1).logsumexp(dim=1)
    hard_scores = (anchors[owner] * hard).sum(dim=-1) / temperature
    segment = torch.cat([torch.arange(len(anchors), device=owner.device), owner])
    terms = torch.cat([total, hard_scores])
    denominator = segment_logsumexp(terms, segment, torch.ones_like(segment, dtype=torch.bool))[: len(anchors)]
    return _weighed(denominator - own, weight)


def cluster_loss(
    anchors: torch.Tensor,
    own: torch.Tensor,
    centroids: torch.Tensor,
    known: torch.Tensor,
    *,
    temperature: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum over anchors, times their weights w, of

        L = -log( exp(z.c+ / T) / ( exp(z.c+ / T) + sum_{c-} exp(z.c- / T) ) )

    where c+ is the centroid of the anchor's cluster and c- runs over the others, without those known to be no
    negatives. Source: the cluster-level objective is named in the CIKM 2022 paper (DOI 10.1145/3511808.3557143), the
    formula is our choice.

    Unit vectors: `anchors` z [A, d], `centroids` [C, d], those of the batch and of the queue alike. `own` [A] int64:
    the row of c+; `known` [A, C] bool: true where a centroid is no negative (at c+ of no meaning). `temperature` T;
    `weight` w [A], None: 1. Returns a scalar; A = 0 gives 0.
    """
    positive = functional.one_hot(own, len(centroids)).bool()
    logits = (anchors @ centroids.T / temperature).masked_fill(known & ~positive, -torch.inf)
    return _weighed(functional.cross_entropy(logits, own, reduction="none"), weight)


def _weighed(losses: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return losses.sum() if weight is None else (weight * losses).sum()
