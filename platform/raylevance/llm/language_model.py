"""A language model over a data set of prompts: what vLLM and an endpoint have in common."""

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
"""`text`: what was generated; null where only choices were scored. `log_probabilities` [choices]: of each choice,
summing to 1 as probabilities; null without choices. `tokens`: read and written. `error`: empty, or why there is no
answer."""


class Request(Settings):
    """What is asked of every prompt: to pick one of `choices`, to write JSON of a schema, or to write freely.

    `max_tokens` bounds what is written; `stop` ends it. A choice is one token (`JudgePrompt.answer_tokens` checks it).
    """

    choices: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    max_tokens: PositiveInt = 1
    temperature: float = Field(0, ge=0, le=2)
    stop: tuple[str, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.choices and self.json_schema:
            raise ValueError("choices and json_schema exclude each other")
        return self


class LanguageModel(Protocol):
    """`answer` maps rows of `PROMPTS` to rows of `ANSWERS`, one each, in any order; a failed row has an `error`."""

    def answer(self, prompts: ray.data.Dataset, request: Request) -> ray.data.Dataset: ...
