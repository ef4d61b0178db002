"""What two texts that were read apart tell of each other: their vectors compared, and their tokens.

Source: late ("post-cross") interaction of several granularities is named in the CIKM 2022 paper
(DOI 10.1145/3511808.3557143); it prints no features, these are our reading of it.
"""

from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True)
class TokenStates:
    """The tokens of n texts: unit `states` float32 [n, t, d], and `words` bool [n, t].

    `words` is False where a place is padding or a special token, which says nothing of the text.
    """

    states: torch.Tensor
    words: torch.Tensor

    def take(self, rows: torch.Tensor) -> Self:
        return type(self)(self.states[rows], self.words[rows])


@dataclass(frozen=True)
class Reading:
    """n texts as an encoder read them: unit `vectors` float32 [n, d], and the `tokens`; None where unknown."""

    vectors: torch.Tensor
    tokens: TokenStates | None = None

    @classmethod
    def blank(cls, texts: int, tokens: int | None, dimension: int, device: torch.device) -> Self:
        """Room for `texts` of at most `tokens` each, None: for their vectors only. Fill it with `put`."""
        vectors = torch.zeros(texts, dimension, device=device)
        if tokens is None:
            return cls(vectors)
        words = torch.zeros(texts, tokens, dtype=torch.bool, device=device)
        return cls(vectors, TokenStates(torch.zeros(texts, tokens, dimension, device=device), words))

    def put(self, rows: torch.Tensor, part: "Reading") -> None:
        """Let the texts `rows` [m] int64 be those of `part`."""
        self.vectors[rows] = part.vectors
        if self.tokens and part.tokens:
            longest = part.tokens.words.shape[1]
            self.tokens.states[rows, :longest] = part.tokens.states
            self.tokens.words[rows, :longest] = part.tokens.words

    def take(self, rows: torch.Tensor) -> Self:
        """The texts `rows` [m] int64, in that order."""
        return type(self)(self.vectors[rows], self.tokens.take(rows) if self.tokens else None)


def pair_features(queries: Reading, items: Reading) -> tuple[torch.Tensor, torch.Tensor]:
    """[u; v; |u - v|; u * v; cos(u, v)] of each pair [n, 4d + 1], and the cosines [n].

    u, v are the vectors of `queries` and `items`, pairs row by row. Where both have tokens, `max_similarity` follows
    as a last feature: [n, 4d + 2].
    """
    u, v = queries.vectors, items.vectors
    cosines = (u * v).sum(dim=1)
    features = [u, v, (u - v).abs(), u * v, cosines[:, None]]
    if queries.tokens and items.tokens:
        features.append(max_similarity(queries.tokens, items.tokens)[:, None])
    return torch.cat(features, dim=1), cosines


def max_similarity(queries: TokenStates, items: TokenStates) -> torch.Tensor:
    """MaxSim [n] of each pair: the mean over the query's words of the highest cosine with a word of the item.

    0 where either has no words. Source: ColBERT (Khattab and Zaharia 2020, arXiv 2004.12832), eq. 3, as a mean.
    """
    cosines = queries.states @ items.states.transpose(1, 2)
    best = cosines.masked_fill(~items.words[:, None, :], -1).amax(dim=2)
    counted = queries.words & items.words.any(dim=1, keepdim=True)
    return best.where(counted, 0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
