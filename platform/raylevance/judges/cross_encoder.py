"""The cross-encoder: one transformer reads query and product together and gives logits of three grades.

Source: Nogueira and Cho 2019 (arXiv 1901.04085), with a class a grade. `sentence_transformers.CrossEncoder(folder)`
opens what `save` writes, and gives the same logits.
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
from raylevance.hugging_face import one_line_errors, read_config, without_progress
from raylevance.judges.grader import GRADES, LogProbabilities, log_probabilities
from raylevance.models.batching import default_batch_tokens

DROPOUT = 0.0
"""As the encoder's: a step is then the same on any number of workers (our choice)."""


@dataclass(frozen=True)
class PairTokenizer:
    """A Hugging Face tokenizer of pairs; what exceeds its `model_max_length` is cut from the longer text."""

    tokenizer: Any

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each pair, special tokens included."""
        encoded = self.tokenizer(
            list(queries), list(texts), truncation=True, return_attention_mask=False, return_token_type_ids=False
        )
        return cast(list[list[int]], encoded["input_ids"])


class CrossEncoder(nn.Module):
    """Pairs of a query and a product's text to logits of the grades 0, 1, 2."""

    def __init__(self, network: Any, tokenizer: PairTokenizer) -> None:
        """`network`: a Hugging Face sequence classifier of three labels.

        Raises `ValueError` for a tokenizer whose token types are not 0 up to the first separator and 1 from there.
        """
        super().__init__()
        self.network = network
        self.tokenize = tokenizer
        self._separator = _separator(tokenizer.tokenizer)

    @classmethod
    def from_backbone(cls, backbone: str | Path, max_tokens: int, seed: int = 0) -> Self:
        """A new head, random by `seed`, on a plain encoder: a folder or a Hugging Face id.

        A head of three labels that the folder has is kept. `max_tokens` bounds a pair.
        Raises `RaylevanceError` where the backbone can't be read, or `max_tokens` exceeds its positions.
        """
        verbosity = transformers.utils.logging.get_verbosity()
        with one_line_errors(str(backbone), "encoder"), torch.random.fork_rng([]):
            torch.manual_seed(seed)
            config = read_config(backbone, DROPOUT)
            config.num_labels = GRADES
            positions = getattr(config, "max_position_embeddings", None)
            if positions and max_tokens > positions:
                raise RaylevanceError(f"{backbone}: reads {positions} tokens at most, got a limit of {max_tokens}")
            # It would report that the head is new.
            transformers.utils.logging.set_verbosity_error()
            try:
                network = _read_network(backbone, config, ignore_mismatched_sizes=True)
            finally:
                transformers.utils.logging.set_verbosity(verbosity)
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(backbone), model_max_length=max_tokens)
            return cls(network, PairTokenizer(tokenizer))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The cross-encoder that `save` wrote, or another sequence classifier of three labels (folder or hub id).

        Raises `RaylevanceError` where `path` is none.
        """
        with one_line_errors(str(path), "cross-encoder"):
            config = read_config(path, DROPOUT)
            if config.num_labels != GRADES:
                raise RaylevanceError(f"{path}: gives {config.num_labels} labels, not one of three grades")
            return cls(_read_network(path, config), load_tokenizer(path))

    def save(self, path: str | Path) -> None:
        """Write the cross-encoder to the folder `path`, replacing what it holds."""
        shutil.rmtree(path, ignore_errors=True)
        with without_progress():
            self.network.save_pretrained(path)
            self.tokenize.tokenizer.save_pretrained(path)

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.network.device)

    @property
    def pad_id(self) -> int:
        return int(self.tokenize.tokenizer.pad_token_id)

    @property
    def default_batch_tokens(self) -> int:
        """Tokens of one forward pass, padding included."""
        return default_batch_tokens(self.device)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Logits float32 [n, 3] of token ids [n, t]; `mask` [n, t] is None where nothing is padded."""
        types = None
        if self._separator is not None:
            separators = (ids == self._separator).long()
            types = (separators.cumsum(dim=1) > separators).long()
        logits: torch.Tensor = self.network(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        return logits.float()

    def log_probabilities(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> LogProbabilities:
        """Of the grades 0, 1, 2 for each pair: float32 [n, 3]; `progress` gets the number of pairs just done."""
        return log_probabilities(self, queries, texts, progress=progress)


def load_tokenizer(path: str | Path) -> PairTokenizer:
    """The tokenizer alone of the cross-encoder at `path`, without its weights. Raises as `CrossEncoder.load`."""
    with one_line_errors(str(path), "cross-encoder"):
        return PairTokenizer(transformers.AutoTokenizer.from_pretrained(str(path)))


def _read_network(path: str | Path, config: Any, **options: Any) -> Any:
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        str(path), config=config, use_safetensors=True, dtype=torch.float32, **options
    )


def _separator(tokenizer: Any) -> int | None:
    """The token after which token types are 1; None where the model knows no types."""
    types = tokenizer("a", "b").get("token_type_ids")
    if not types or not any(types):
        return None
    ids = tokenizer("a", "b")["input_ids"]
    first = ids.index(tokenizer.sep_token_id)
    if types != [0] * (first + 1) + [1] * (len(ids) - first - 1):
        raise ValueError("its token types are not those of BERT")
    return int(tokenizer.sep_token_id)
