"""Noise on item texts: tokens dropped at random, and one span deleted. Titles are lists of keywords; queries are not.

Source: [R] of the notes on the CIKM 2022 paper (DOI 10.1145/3511808.3557143), which names no such noise: our choice.
"""

from dataclasses import dataclass

import numpy as np

from raylevance.training.token_file import Tokens


@dataclass(frozen=True)
class ItemNoise:
    """What an item text loses, first by `drop_tokens`, then by `delete_span`. `special` [s]: ids that stay."""

    token_dropout: float
    span_deletion: float
    special: Tokens

    def __call__(self, tokens: Tokens, rng: np.random.Generator) -> Tokens:
        """`tokens` [n] to a text of at most as many; `rng` is drawn from the same number of times for equal texts."""
        if self.token_dropout:
            tokens = drop_tokens(tokens, self.token_dropout, self.special, rng)
        return delete_span(tokens, self.span_deletion, self.special, rng) if self.span_deletion else tokens


def drop_tokens(tokens: Tokens, probability: float, special: Tokens, rng: np.random.Generator) -> Tokens:
    """`tokens` [n] without those that are dropped, each with `probability`; `special` ids stay, and one other token."""
    content = _content(tokens, special)
    drawn = rng.random(len(content))
    dropped = drawn < probability
    if len(content):
        dropped[drawn.argmax()] = False
    return np.delete(tokens, content[dropped])


def delete_span(tokens: Tokens, share: float, special: Tokens, rng: np.random.Generator) -> Tokens:
    """`tokens` [n] without a span of neighbours, of 0 to `share` (below 1) of what is not `special`, all as likely."""
    content = _content(tokens, special)
    length = int(rng.integers(0, int(share * len(content)), endpoint=True))
    start = int(rng.integers(0, len(content) - length, endpoint=True))
    return np.delete(tokens, content[start : start + length])


def _content(tokens: Tokens, special: Tokens) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Places of the tokens that are not special."""
    return np.flatnonzero(~np.isin(tokens, special))
