"""The interface that a vLLM engine and an HTTP endpoint share: a language model over a data set of prompts."""

import hashlib
import json
from typing import Any, Protocol, Self

import pyarrow as pa
import ray.data
from pydantic import Field, PositiveInt, model_validator

from raylevance.config import Settings

PROMPTS = pa.schema([("key", pa.string()), ("prompt", pa.string())])
ANSWERS = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        ("log_probabilities", pa.list_(pa.float32())),
        ("tokens", pa.int32()),
        ("error", pa.string()),
    ]
)
"""One answer per prompt.

- `text`: the generated text; null for a request with choices.
- `log_probabilities` [choices]: one per choice, normalised so that the probabilities sum to 1; null without choices.
- `tokens`: the number of tokens that were read and written; null where it is not known.
- `error`: the reason why there is no answer; empty when there is one.
"""


def prompt_key(version: str, prompt: str) -> str:
    """Return the ledger key of a prompt put to a version of a model: the same question has the same key in any job."""
    return hashlib.sha256(json.dumps([version, prompt]).encode()).hexdigest()


class Request(Settings):
    """The kind of answer to generate for every prompt: one of `choices`, JSON that follows a schema, or free text."""

    choices: tuple[str, ...] = ()
    """The allowed answers. Each must be a single token of the model (`JudgePrompt.answer_tokens` checks this)."""
    json_schema: dict[str, Any] | None = None
    """The JSON schema that the answer must follow; it excludes `choices`."""
    max_tokens: PositiveInt = 1
    """The largest number of tokens to generate."""
    temperature: float = Field(0, ge=0, le=2)
    """The sampling temperature; 0 always picks the most likely token."""
    stop: tuple[str, ...] = ()
    """Generation ends at the first of these strings."""
    seed: int = 0
    """The seed of the sampling."""

    @model_validator(mode="after")
    def _check_one_kind(self) -> Self:
        if self.choices and self.json_schema:
            raise ValueError("choices and json_schema exclude each other: set only one of them")
        return self


class LanguageModel(Protocol):
    """A model that answers a data set of prompts."""

    def answer(self, prompts: ray.data.Dataset, request: Request) -> ray.data.Dataset:
        """Map rows of `PROMPTS` to rows of `ANSWERS`, one each, in any order; a row that fails has an `error`."""
        ...
