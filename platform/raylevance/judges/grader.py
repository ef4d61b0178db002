"""What every model that grades pairs has in common, and the probabilities of many pairs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from raylevance.models.batching import length_groups, pad
from raylevance.models.precision import autocast, autocast_dtype

GRADES = 3
TOKENIZE_CHUNK = 16_384

LogProbabilities = npt.NDArray[np.float32]


class Grader(Protocol):
    """A module whose forward gives float32 logits [n, 3] of token ids [n, t], padded at the end.

    The mask [n, t] is None where nothing is padded.
    """

    training: bool

    @property
    def device(self) -> torch.device: ...

    @property
    def pad_id(self) -> int: ...

    @property
    def default_batch_tokens(self) -> int: ...

    def tokenize(self, queries: Sequence[str], texts: Sequence[str], /) -> list[list[int]]: ...

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None, /) -> torch.Tensor: ...

    def train(self, mode: bool = True, /) -> object: ...


def log_probabilities(
    grader: Grader,
    queries: Sequence[str],
    texts: Sequence[str],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> LogProbabilities:
    """Of the grades 0, 1, 2 for each pair of `queries` and `texts` [n]: float32 [n, 3], in their order.

    `batch_tokens` bounds the tokens, padding included, of one forward pass.
    `progress` is called with the number of pairs done since its last call.
    """
    answers = np.empty((len(queries), GRADES), np.float32)
    training = grader.training
    grader.train(False)
    for start in range(0, len(queries), TOKENIZE_CHUNK):
        part = slice(start, start + TOKENIZE_CHUNK)
        tokens = grader.tokenize(queries[part], texts[part])
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        for rows in length_groups(lengths, batch_tokens or grader.default_batch_tokens):
            answers[start + rows] = _grade_group(grader, [tokens[row] for row in rows])
            if progress:
                progress(len(rows))
    grader.train(training)
    return answers


@torch.inference_mode()
def _grade_group(grader: Grader, tokens: list[list[int]]) -> LogProbabilities:
    ids, mask = pad(tokens, grader.pad_id)
    with autocast(grader.device, autocast_dtype(grader.device)):
        logits = grader(ids.to(grader.device), None if mask is None else mask.to(grader.device))
    answers: LogProbabilities = logits.log_softmax(dim=-1).cpu().numpy()
    return answers
