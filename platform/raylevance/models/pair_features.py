"""Features of a pair of texts that were encoded separately, from their vectors and their tokens.

Source: the CIKM 2022 paper (DOI 10.1145/3511808.3557143) names late ("post-cross") interaction at several granularities
but prints no features. These are our reading of it.
"""

from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True)
class TokenStates:
    """The tokens of n texts: unit vectors `states`, float32 [n, t, d], and a mask `words`, bool [n, t].

    `words` is False for padding and for special tokens, which are not part of the text.
    """

    states: torch.Tensor
    words: torch.Tensor

    def take(self, rows: torch.Tensor) -> Self:
        """Return the tokens of the texts `rows`, int64 [m], in that order."""
        return type(self)(self.states[rows], self.words[rows])


@dataclass(frozen=True)
class EncodedTexts:
    """n encoded texts: unit `vectors`, float32 [n, d], and the states of their tokens.

    `tokens` is None if only the vectors are known.
    """

    vectors: torch.Tensor
    tokens: TokenStates | None = None

    @classmethod
    def allocate(cls, texts: int, tokens: int | None, dimension: int, device: torch.device) -> Self:
        """Return zeros for `texts` texts of at most `tokens` tokens each, to be filled with `fill`.

        If `tokens` is None, there are vectors only.
        """
        vectors = torch.zeros(texts, dimension, device=device)
        if tokens is None:
            return cls(vectors)
        words = torch.zeros(texts, tokens, dtype=torch.bool, device=device)
        return cls(vectors, TokenStates(torch.zeros(texts, tokens, dimension, device=device), words))

    def fill(self, rows: torch.Tensor, part: "EncodedTexts") -> None:
        """Set the texts `rows`, int64 [m], to those of `part`."""
        self.vectors[rows] = part.vectors
        if self.tokens and part.tokens:
            longest = part.tokens.words.shape[1]
            self.tokens.states[rows, :longest] = part.tokens.states
            self.tokens.words[rows, :longest] = part.tokens.words

    def take(self, rows: torch.Tensor) -> Self:
        """Return the texts `rows`, int64 [m], in that order."""
        return type(self)(self.vectors[rows], self.tokens.take(rows) if self.tokens else None)


def pair_features(queries: EncodedTexts, items: EncodedTexts) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features [u; v; |u - v|; u * v; cos(u, v)] of each pair, [n, 4d + 1], and the cosines [n].

    u and v are the vectors of `queries` and `items`, which are paired row by row. If both have tokens, `max_similarity`
    is added as the last feature, so the features are [n, 4d + 2].
    """
    u, v = queries.vectors, items.vectors
    cosines = (u * v).sum(dim=1)
    features = [u, v, (u - v).abs(), u * v, cosines[:, None]]
    if queries.tokens and items.tokens:
        features.append(max_similarity(queries.tokens, items.tokens)[:, None])
    return torch.cat(features, dim=1), cosines


def max_similarity(queries: TokenStates, items: TokenStates) -> torch.Tensor:
    """Return the MaxSim of each pair, [n]: the mean over the query's words of the highest cosine with an item's word.

    It is 0 if the query or the item has no words. Source: ColBERT (Khattab and Zaharia 2020, arXiv 2004.12832), eq. 3,
    with a mean instead of a sum.
    """
    cosines = queries.states @ items.states.transpose(1, 2)
    best_cosine = cosines.masked_fill(~items.words[:, None, :], -1).amax(dim=2)
    counted = queries.words & items.words.any(dim=1, keepdim=True)
    return best_cosine.where(counted, 0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
