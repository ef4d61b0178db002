"""The cross-encoder: one transformer reads query and product together and gives logits of the three grades.

Source: Nogueira and Cho 2019 (arXiv 1901.04085), here with one class per grade. A folder that `save` wrote can be
opened with `sentence_transformers.CrossEncoder(folder)`, which gives the same logits.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
import transformers
from torch import nn

from raylevance.errors import RaylevanceError
from raylevance.hugging_face import (
    one_line_errors,
    read_config_with_dropout,
    without_load_report,
    without_progress_bars,
)
from raylevance.judges.grader import GRADES, LogProbabilities, log_probabilities
from raylevance.models.batching import default_batch_tokens
from raylevance.models.token_limit import longest_input, read_tokenizer, token_limit

DROPOUT = 0.0
"""Without dropout, a training step is the same on any number of workers (our choice, as for the encoder)."""


@dataclass(frozen=True)
class PairTokenizer:
    """A tokenizer of pairs. Tokens beyond the tokenizer's `model_max_length` are cut from the longer text."""

    tokenizer: Any
    """A Hugging Face tokenizer."""

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each pair, special tokens included."""
        encoded = self.tokenizer(
            list(queries), list(texts), truncation=True, return_attention_mask=False, return_token_type_ids=False
        )
        return cast(list[list[int]], encoded["input_ids"])


class CrossEncoder(nn.Module):
    """A `Grader` that reads query and product text as one sequence."""

    def __init__(self, network: Any, tokenizer: PairTokenizer) -> None:
        """Wrap `network`, a Hugging Face sequence classifier of three labels.

        Raises `ValueError` if the tokenizer has token types other than 0 up to the first separator and 1 after it.
        """
        super().__init__()
        self.network = network
        self.tokenize = tokenizer
        self._separator = _separator(tokenizer.tokenizer)

    @classmethod
    def from_backbone(cls, backbone: str | Path, max_tokens: int, seed: int = 0) -> Self:
        """Put a new random head on an encoder, a folder or a Hugging Face id, unless it has a head of three labels.

        `max_tokens` is the largest number of tokens of a pair; `seed` decides the weights of the new head.
        Raises `RaylevanceError` if the backbone can't be read, or has fewer positions than `max_tokens`.
        """
        with one_line_errors(str(backbone), "encoder"), torch.random.fork_rng([]):
            config = read_config_with_dropout(backbone, DROPOUT)
            config.num_labels = GRADES
            limit = longest_input(config)
            if limit is not None and max_tokens > limit:
                raise RaylevanceError(
                    f"{backbone}: reads at most {limit} tokens, got max_tokens={max_tokens}; lower max_tokens"
                )
            torch.manual_seed(seed)
            with without_load_report():  # The head is new.
                network = _read_network(backbone, config, ignore_mismatched_sizes=True)
            return cls(network, PairTokenizer(read_tokenizer(backbone, model_max_length=max_tokens)))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a cross-encoder that `save` wrote, or any sequence classifier of three labels (folder or hub id).

        Raises `RaylevanceError` if `path` is not such a model.
        """
        with one_line_errors(str(path), "cross-encoder"):
            config = read_config_with_dropout(path, DROPOUT)
            if config.num_labels != GRADES:
                raise RaylevanceError(f"{path}: has {config.num_labels} labels, expected 3, one per grade")
            return cls(_read_network(path, config), load_pair_tokenizer(path))

    def save(self, path: str | Path) -> None:
        """Write the cross-encoder to the folder `path`, replacing its content."""
        shutil.rmtree(path, ignore_errors=True)
        with without_progress_bars():
            self.network.save_pretrained(path)
            self.tokenize.tokenizer.save_pretrained(path)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return cast(torch.device, self.network.device)

    @property
    def pad_id(self) -> int:
        """The token id that pads a batch."""
        return int(self.tokenize.tokenizer.pad_token_id)

    @property
    def default_batch_tokens(self) -> int:
        """The number of tokens of one forward pass that suits the device, padding included."""
        return default_batch_tokens(self.device)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return logits float32 [n, 3] of token ids [n, t]; `mask` [n, t] is None if nothing is padded."""
        types = None
        if self._separator is not None:
            separators = (ids == self._separator).long()
            types = (separators.cumsum(dim=1) > separators).long()
        logits: torch.Tensor = self.network(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        return logits.float()

    def log_probabilities(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> LogProbabilities:
        """Return the log-probabilities float32 [n, 3] of the grades 0, 1, 2 of n pairs.

        `progress` is called with the number of pairs done since its last call.
        """
        return log_probabilities(self, queries, texts, progress=progress)


def load_pair_tokenizer(path: str | Path) -> PairTokenizer:
    """Load the tokenizer of the cross-encoder at `path` without its weights.

    Raises `RaylevanceError` if the tokenizer can't be read.
    """
    with one_line_errors(str(path), "cross-encoder"):
        tokenizer = read_tokenizer(path)
        tokenizer.model_max_length = token_limit(transformers.AutoConfig.from_pretrained(str(path)), tokenizer)
        return PairTokenizer(tokenizer)


def _read_network(path: str | Path, config: Any, **options: Any) -> Any:
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        str(path), config=config, use_safetensors=True, dtype=torch.float32, **options
    )


def _separator(tokenizer: Any) -> int | None:
    """Return the token id after which token types are 1; None if the model has no token types."""
    types = tokenizer("a", "b").get("token_type_ids")
    if not types or not any(types):
        return None
    ids = tokenizer("a", "b")["input_ids"]
    first = ids.index(tokenizer.sep_token_id)
    if types != [0] * (first + 1) + [1] * (len(ids) - first - 1):
        raise ValueError("its token types are not 0 up to the first separator and 1 after it, as in BERT")
    return int(tokenizer.sep_token_id)
