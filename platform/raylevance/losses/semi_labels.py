"""Semi-supervised labels: knowledge of a query fused into its vector, and the labels that the result is close to."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch.nn import functional

Text = TypeVar("Text", bound=Hashable)


def place_knowledge(known: Sequence[Sequence[Text]]) -> tuple[list[Text], torch.Tensor]:
    """Return the distinct texts that are known about n queries, in order, and which of them each query has.

    The latter are their numbers, int64 [n, k], -1 where a query has fewer texts than another. With `vectors` of the
    distinct texts, `fuse_knowledge(queries, vectors[places.clamp(min=0)], places >= 0)` fuses them; without any text
    `vectors` needs one row, which is not read.
    """
    number = {text: place for place, text in enumerate(dict.fromkeys(text for own in known for text in own))}
    places = np.full((len(known), max(map(len, known), default=0)), -1)
    for row, own in enumerate(known):
        places[row, : len(own)] = [number[text] for text in own]
    return list(number), torch.from_numpy(places)


def fuse_knowledge(queries: torch.Tensor, knowledge: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the query vectors with the vectors of what is known about each query,

        alpha = softmax(Q_i K^T),   q'_i = Q_i + sum_j alpha_j K_j

    over the knowledge texts of the query. A query without one keeps its vector.

    Shapes: `queries` [n, d], `knowledge` [n, k, d], `mask` [n, k] (true for a text, false for padding); k may be 0. The
    result is [n, d].

    Source: SSUF (arXiv 2506.21049), knowledge-enhanced module.
    """
    scores = torch.einsum("nd,nkd->nk", queries, knowledge).masked_fill(~mask, -torch.inf)
    # A row of -inf alone would become nan, also in the gradient.
    alpha = functional.softmax(scores.masked_fill(~mask.any(dim=1, keepdim=True), 0.0), dim=1) * mask
    return queries + torch.einsum("nk,nkd->nd", alpha, knowledge)


def semi_labels(fused: torch.Tensor, labels: torch.Tensor, tau: float) -> torch.Tensor:
    """Return the soft labels

        s_ij = cos(q'_i, C_j),   y_semi_ij = s_ij * 1[s_ij >= tau]

    float32 [n, labels], of the fused query vectors [n, d] and the label vectors [labels, d].

    The caller stops the gradient: with it, queries and labels pull each other together until all vectors are one.

    Source: SSUF (arXiv 2506.21049), knowledge-enhanced module.
    """
    cosines = functional.normalize(fused.float(), dim=1) @ functional.normalize(labels.float(), dim=1).T
    return cosines * (cosines >= tau)


def soft_targets(click: torch.Tensor, semi: torch.Tensor) -> torch.Tensor:
    """Return the targets min(y_click + y_semi, 1), in the shape of both.

    Source: SSUF (arXiv 2506.21049), prediction and loss.
    """
    return (click + semi).clamp(max=1.0)
