"""The chat-completions protocol: the body of a request, and how the body of a response is read.

Failure reasons never quote the prompt, the answer or a message of the server, which may quote them in turn.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from raylevance.llm.language_model import Request

TOP_LOG_PROBABILITIES = 20
"""Log-probabilities to request per token: the most that OpenAI's server and, by default, vLLM's server return."""

TEMPORARY_STATUSES = (408, 409, 429)
"""HTTP statuses below 500 after which the same request may succeed."""

_ERROR_WORD = re.compile(r"[A-Za-z][\w.-]{0,59}")


class CompletionError(Exception):
    """The reason why a request has no answer.

    `status` is the HTTP status, or 0 without a response. `temporary` says that the same request may succeed later.
    `wait_s` is the number of seconds that the server asks to wait before that; None where it does not say.
    """

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
    """Return the JSON body of the request for one prompt.

    `structured_outputs` says that the server knows vLLM's field of that name, which restricts an answer to the
    choices. The fields of `extra` replace ours, and a field that is None there is left out.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": request.temperature,
        "max_tokens": 1 if request.choices else request.max_tokens,
        "seed": request.seed,
    }
    if request.choices:
        body |= {"logprobs": True, "top_logprobs": TOP_LOG_PROBABILITIES}
        if structured_outputs:
            body["structured_outputs"] = {"choice": list(request.choices)}
    if request.json_schema:
        # Without `strict`, since OpenAI's server then refuses keywords of JSON schema that it does not enforce.
        schema = {"name": "answer", "schema": request.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.stop:
        body["stop"] = list(request.stop)
    return {name: value for name, value in (body | dict(extra)).items() if value is not None}


def read_answer(status: int, body: bytes, request: Request) -> dict[str, Any]:
    """Return the row of `ANSWERS`, without its key, that a response holds.

    Raises `CompletionError` if the response is an error or holds no answer.
    """
    content = _parse_json(body)
    error = _error_object(content)
    if status == 200 and error is not None:
        status = _status_of_error(error)
    if status != 200:
        temporary = status in TEMPORARY_STATUSES or status >= 500
        raise CompletionError(": ".join([f"HTTP {status}", *_error_words(error)]), status, temporary)
    try:
        completion = _Completion.model_validate(content)
    except ValidationError:
        raise CompletionError("the body is not a chat completion", temporary=True) from None
    tokens = completion.usage.total_tokens if completion.usage else None
    answer = {"text": None, "log_probabilities": None, "tokens": tokens, "error": ""}
    choice = completion.choices[0]
    text = choice.message.content
    if text is None:
        raise CompletionError("the answer has no text")
    if request.choices:
        return answer | {"log_probabilities": _choice_log_probabilities(text.strip(), choice.logprobs, request.choices)}
    if request.json_schema and _parse_json(text) is None:
        cut = choice.finish_reason == "length"
        raise CompletionError("the answer is not JSON" + (": cut off at max_tokens" if cut else ""))
    return answer | {"text": text}


def _choice_log_probabilities(answer: str, logprobs: _LogProbabilities | None, choices: Sequence[str]) -> list[float]:
    """Return the log-probabilities of `choices`, normalised so that the probabilities sum to 1.

    The probabilities of tokens that differ only in white space are added. A choice that is not listed gets the
    probability of the least likely listed token, or the probability that the listed tokens leave over if that is less
    (our choice).
    Raises `CompletionError` for an answer that is none of the choices, or without log-probabilities.
    """
    if answer not in choices:
        raise CompletionError("the answer is not one of the choices")
    if logprobs is None or not logprobs.content:
        raise CompletionError("the server returns no log-probabilities, which tell the confidence of a grade")
    first = logprobs.content[0]
    listed = {entry.token: entry.logprob for entry in (first, *first.top_logprobs)}
    left_over = max(1 - sum(map(math.exp, listed.values())), 1e-12)
    unlisted = min(*listed.values(), math.log(left_over))
    values = np.array([_choice_log_probability(choice, listed, unlisted) for choice in choices])
    normalised: list[float] = (values - np.logaddexp.reduce(values)).tolist()
    return normalised


def _choice_log_probability(choice: str, listed: Mapping[str, float], unlisted: float) -> float:
    values = [value for token, value in listed.items() if token.strip() == choice]
    return float(np.logaddexp.reduce(values)) if values else unlisted


def _parse_json(body: bytes | str) -> Any:
    """Return None for a body that is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _error_object(content: Any) -> Any:
    """Return the error in a body, in OpenAI's form (`{"error": ...}`) or flat (`{"object": "error", ...}`), or None."""
    if not isinstance(content, dict):
        return None
    return content.get("error") or (content if content.get("object") == "error" else None)


def _status_of_error(error: Any) -> int:
    """Return the HTTP status of an error that was sent with status 200: its code, as gateways do it, or else 500."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _error_words(error: Any) -> list[str]:
    """Return the single words that name an error. Its message is left out because it may quote the prompt."""
    fields = [error.get(name) for name in ("type", "code", "param")] if isinstance(error, dict) else []
    words = [field for field in fields if isinstance(field, str) and _ERROR_WORD.fullmatch(field)]
    return [", ".join(words)] if words else []
