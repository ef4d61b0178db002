"""Noise on item texts: tokens are dropped at random, and one span of tokens is deleted.

Item titles are lists of keywords and bear such noise; queries do not. The CIKM 2022 paper (DOI 10.1145/3511808.3557143)
names no such noise: it is our choice.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylevance.training.token_file import Tokens


@dataclass(frozen=True)
class ItemNoise:
    """Noise on item texts: `drop_tokens`, then `delete_span`.

    - `token_dropout`: probability of each token to be dropped.
    - `span_deletion`: largest share of the tokens that is deleted as a span.
    - `special` [s]: ids of tokens that are never removed.
    """

    token_dropout: float
    span_deletion: float
    special: Tokens

    def __call__(self, tokens: Tokens, rng: np.random.Generator) -> Tokens:
        """Return `tokens` [n] without those that the noise removes; equal texts take equally many draws from `rng`."""
        if self.token_dropout:
            tokens = drop_tokens(tokens, self.token_dropout, self.special, rng)
        return delete_span(tokens, self.span_deletion, self.special, rng) if self.span_deletion else tokens


def drop_tokens(tokens: Tokens, probability: float, special: Tokens, rng: np.random.Generator) -> Tokens:
    """Return `tokens` [n] without those that are dropped, each with `probability`.

    Ids in `special` are never dropped, and at least one other token stays.
    """
    content = _content_positions(tokens, special)
    drawn = rng.random(len(content))
    dropped = drawn < probability
    if len(content):
        dropped[drawn.argmax()] = False
    return np.delete(tokens, content[dropped])


def delete_span(tokens: Tokens, share: float, special: Tokens, rng: np.random.Generator) -> Tokens:
    """Return `tokens` [n] without a span of consecutive tokens.

    The length of the span is uniform from 0 to `share` (below 1) of the tokens that are not in `special`, and so is its
    position among them.
    """
    content = _content_positions(tokens, special)
    length = int(rng.integers(0, int(share * len(content)), endpoint=True))
    start = int(rng.integers(0, len(content) - length, endpoint=True))
    return np.delete(tokens, content[start : start + length])


def _content_positions(tokens: Tokens, special: Tokens) -> npt.NDArray[np.intp]:
    return np.flatnonzero(~np.isin(tokens, special))
