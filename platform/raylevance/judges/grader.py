"""The interface of the models that grade pairs, and the log-probabilities of many pairs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from raylevance.models.batching import length_groups, pad
from raylevance.models.precision import autocast, autocast_dtype

GRADES = 3
TOKENIZE_CHUNK = 16_384
"""Pairs that are tokenised at once."""

LogProbabilities = npt.NDArray[np.float32]


class Grader(Protocol):
    """A module that maps pairs to logits of the grades 0, 1, 2."""

    training: bool

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        ...

    @property
    def pad_id(self) -> int:
        """The token id that pads a batch."""
        ...

    @property
    def default_batch_tokens(self) -> int:
        """The number of tokens of one forward pass that suits the model and the device, padding included."""
        ...

    def tokenize(self, queries: Sequence[str], texts: Sequence[str], /) -> list[list[int]]:
        """Return the token ids of each pair of a query and a product text."""
        ...

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None, /) -> torch.Tensor:
        """Return logits float32 [n, 3] of token ids [n, t], padded at the end.

        `mask` [n, t] is 0 at padding, and None if nothing is padded.
        """
        ...

    def train(self, mode: bool = True, /) -> object:
        """Switch between training and inference, as `torch.nn.Module.train`."""
        ...


def log_probabilities(
    grader: Grader,
    queries: Sequence[str],
    texts: Sequence[str],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> LogProbabilities:
    """Return the log-probabilities float32 [n, 3] of the grades 0, 1, 2 of n pairs, in the order of the pairs.

    `batch_tokens` is the largest number of tokens of one forward pass, padding included. `progress` is called with the
    number of pairs done since its last call.
    """
    graded = np.empty((len(queries), GRADES), np.float32)
    training = grader.training
    grader.train(False)
    for start in range(0, len(queries), TOKENIZE_CHUNK):
        part = slice(start, start + TOKENIZE_CHUNK)
        tokens = grader.tokenize(queries[part], texts[part])
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        for rows in length_groups(lengths, batch_tokens or grader.default_batch_tokens):
            graded[start + rows] = _grade_group(grader, [tokens[row] for row in rows])
            if progress:
                progress(len(rows))
    grader.train(training)
    return graded


@torch.inference_mode()
def _grade_group(grader: Grader, tokens: list[list[int]]) -> LogProbabilities:
    ids, mask = pad(tokens, grader.pad_id)
    with autocast(grader.device, autocast_dtype(grader.device)):
        logits = grader(ids.to(grader.device), None if mask is None else mask.to(grader.device))
    values: LogProbabilities = logits.log_softmax(dim=-1).cpu().numpy()
    return values
