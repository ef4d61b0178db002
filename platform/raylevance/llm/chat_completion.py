"""The chat-completions protocol: what is sent for a prompt, and what the body that comes back says.

No reason of a failure repeats the prompt, the answer or a sentence of the server's, which may repeat them.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from raylevance.llm.language_model import Request

TOP = 20
"""Log-probabilities asked for: the most that OpenAI's server and, by default, vLLM's give."""

TEMPORARY = (408, 409, 429)
_WORD = re.compile(r"[A-Za-z][\w.-]{0,59}")


class CompletionError(Exception):
    """Why there is no answer, in a few words. `status`: HTTP's, or 0. `wait_s`: how long the server asks to wait."""

    def __init__(self, reason: str, status: int = 0, temporary: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.temporary = temporary
        self.wait_s = wait_s


class _Token(BaseModel):
    token: str
    logprob: FiniteFloat


class _Position(_Token):
    top_logprobs: list[_Token] = []


class _LogProbabilities(BaseModel):
    content: list[_Position] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _LogProbabilities | None = None


class _Usage(BaseModel):
    total_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def request_body(
    prompt: str, request: Request, model: str, structured_outputs: bool, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The body that asks `request` of `prompt`; `extra` goes on top, and a null in it leaves a field out.

    `structured_outputs`: whether the server knows vLLM's field of that name, which keeps an answer to the choices.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": request.temperature,
        "max_tokens": 1 if request.choices else request.max_tokens,
        "seed": request.seed,
    }
    if request.choices:
        body |= {"logprobs": True, "top_logprobs": TOP}
        if structured_outputs:
            body["structured_outputs"] = {"choice": list(request.choices)}
    if request.json_schema:
        # Not `strict`: OpenAI's server then refuses keywords of JSON schema that it does not enforce.
        schema = {"name": "answer", "schema": request.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.stop:
        body["stop"] = list(request.stop)
    return {name: value for name, value in (body | dict(extra)).items() if value is not None}


def read_answer(status: int, body: bytes, request: Request) -> dict[str, Any]:
    """The row of `ANSWERS`, but for its key, that a response holds. Raises `CompletionError` where it holds none."""
    content = _parsed(body)
    error = _error(content)
    if status == 200 and error is not None:
        status = _status(error)
    if status != 200:
        temporary = status in TEMPORARY or status >= 500
        raise CompletionError(": ".join([f"HTTP {status}", *_words(error)]), status, temporary)
    try:
        completion = _Completion.model_validate(content)
    except ValidationError:
        raise CompletionError("the body is no chat completion", temporary=True) from None
    tokens = completion.usage.total_tokens if completion.usage else None
    answer = {"text": None, "log_probabilities": None, "tokens": tokens, "error": ""}
    choice = completion.choices[0]
    text = choice.message.content
    if text is None:
        raise CompletionError("the answer has no text")
    if request.choices:
        return answer | {"log_probabilities": _of_choices(text.strip(), choice.logprobs, request.choices)}
    if request.json_schema and _parsed(text) is None:
        raise CompletionError("the answer is not JSON" + (", cut" if choice.finish_reason == "length" else ""))
    return answer | {"text": text}


def _of_choices(picked: str, logprobs: _LogProbabilities | None, choices: Sequence[str]) -> list[float]:
    """Log-probabilities of `choices`, summing to 1 as probabilities.

    Tokens that differ by white space alone add up. A choice that is not listed gets what the least likely listed token
    has, or what the listed leave over where that is less (our choice). A server that gives no log-probabilities leaves
    the picked choice with probability 1: no confidence is known.
    """
    if picked not in choices:
        raise CompletionError("the answer is none of the choices")
    if logprobs is None or not logprobs.content:
        return [0.0 if choice == picked else -math.inf for choice in choices]
    first = logprobs.content[0]
    listed = {entry.token: entry.logprob for entry in (first, *first.top_logprobs)}
    left = max(1 - sum(map(math.exp, listed.values())), 1e-12)
    unlisted = min(*listed.values(), math.log(left))
    values = np.array([_mass(choice, listed, unlisted) for choice in choices])
    normalised: list[float] = (values - np.logaddexp.reduce(values)).tolist()
    return normalised


def _mass(choice: str, listed: Mapping[str, float], unlisted: float) -> float:
    found = [value for token, value in listed.items() if token.strip() == choice]
    return float(np.logaddexp.reduce(found)) if found else unlisted


def _parsed(body: bytes | str) -> Any:
    """Null for what is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _error(content: Any) -> Any:
    """What an error body says, in OpenAI's form (`{"error": ...}`) or flat (`{"object": "error", ...}`); else null."""
    if not isinstance(content, dict):
        return None
    return content.get("error") or (content if content.get("object") == "error" else None)


def _status(error: Any) -> int:
    """The HTTP status that an error body sent as a success stands for: its code, as gateways do it, else 500."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _words(error: Any) -> list[str]:
    """The single words that name an error; its message may quote the prompt."""
    fields = [error.get(name) for name in ("type", "code", "param")] if isinstance(error, dict) else []
    words = [field for field in fields if isinstance(field, str) and _WORD.fullmatch(field)]
    return [", ".join(words)] if words else []
