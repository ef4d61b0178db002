"""A language model on any server of OpenAI-compatible chat completions, called from Ray Data.

Ray's own HTTP stage sends the requests of a batch one after the other, takes an error body for an answer, and fails the
job on a body that is not JSON. Here each row has a request of its own, and a failure affects only that row.
"""

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Self

import httpx
import pyarrow as pa
import ray.data
import tenacity
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator

from raylevance.config import Settings
from raylevance.errors import RaylevanceError, UsageError
from raylevance.llm.chat_completion import CompletionError, read_answer, request_body
from raylevance.llm.language_model import ANSWERS, Request

BLOCK_ROWS = 64
"""Rows whose answers come back together: a job that is killed has to request at most so many again."""

REQUESTER_CPUS = 0.5
"""CPUs of the actor that sends the requests. Ray would fuse it with the operators before it if they had equal shares,
and a block would then be a whole file again."""

FATAL_STATUSES = (401, 403, 404)
"""HTTP statuses that every row would get: wrong key, no permission, no such model or address."""


class EndpointSettings(Settings):
    """A server of chat completions, and how requests are sent to it."""

    url: str
    """The base URL of the server, such as http://host:8000/v1."""
    model: str = Field(min_length=1)
    """The name of the model on the server."""
    api_key_env: str | None = None
    """The environment variable that holds the API key; None for a server without keys. The key itself never stands in
    settings."""
    concurrency: PositiveInt = 32
    """The number of requests in flight."""
    timeout_s: PositiveFloat = 60
    """Seconds from the start of one attempt to the last byte of its response."""
    max_retries: int = Field(5, ge=0)
    """How often a request is repeated after a temporary failure."""
    max_wait_s: PositiveFloat = 60
    """The longest wait in seconds before a request is repeated, whatever the server asks for."""
    structured_outputs: bool = False
    """The server knows vLLM's field `structured_outputs`, which restricts an answer to the choices. Other servers
    refuse it."""
    extra_body: Mapping[str, Any] = {}
    """More fields for the body of each request. A field set to null is left out, as in
    `{max_tokens: null, max_completion_tokens: 1}`."""

    EXECUTION: ClassVar[frozenset[str]] = frozenset({"concurrency", "timeout_s", "max_retries", "max_wait_s"})
    """The settings that decide how requests are sent, and not what is answered."""

    def answer_settings(self) -> dict[str, Any]:
        """Return the settings that decide the answers, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.EXECUTION))

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL()
        if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query:
            raise ValueError("expected the base URL of a server, such as http://host:8000/v1, without user or query")
        return url.rstrip("/")


class Endpoint:
    """A `LanguageModel` on a server that is already running."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings

    def answer(self, prompts: ray.data.Dataset, request: Request) -> ray.data.Dataset:
        """Map rows of `PROMPTS` to rows of `ANSWERS` lazily; a block arrives as soon as it is answered.

        Raises `UsageError` if the environment variable of the key is not set. A key or model that the server refuses
        raises `RaylevanceError` where the answers are read, wrapped by Ray (`data.failed_datasets.unwrapped_error`).
        """
        # Each call waits for its slowest row; the other calls keep the server busy meanwhile.
        calls = 2 + 2 * self.settings.concurrency // BLOCK_ROWS
        answers = prompts.repartition(target_num_rows_per_block=BLOCK_ROWS).map_batches(
            _Requester,
            fn_constructor_args=(self.settings, request, read_api_key(self.settings.api_key_env)),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=1, max_concurrent_calls_per_actor=calls, enable_true_multi_threading=True
            ),
            num_cpus=REQUESTER_CPUS,
        )
        answers.context.raise_original_map_exception = True
        return answers


class Client:
    """A client that puts one kind of request to one server, within one event loop."""

    def __init__(self, settings: EndpointSettings, request: Request, key: SecretStr | None) -> None:
        self._settings, self._request = settings, request
        self._in_flight = asyncio.Semaphore(settings.concurrency)
        self._fatal_error: RaylevanceError | None = None
        self._backoff = tenacity.wait_random_exponential(max=settings.max_wait_s)
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            limits=httpx.Limits(max_keepalive_connections=settings.concurrency),
            timeout=None,
        )
        self._request_with_retries = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, CompletionError) and error.temporary),
            stop=tenacity.stop_after_attempt(settings.max_retries + 1),
            wait=self._wait_s,
            reraise=True,
        ).wraps(self._request_once)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def answers(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        """Return the row of `ANSWERS` of each prompt, without its key.

        Raises `RaylevanceError` if the server answers with one of `FATAL_STATUSES`.
        """
        return await asyncio.gather(*map(self._answer, prompts))

    async def _answer(self, prompt: str) -> dict[str, Any]:
        # A row that waits for its next attempt still counts as in flight, so that a busy server gets fewer requests.
        async with self._in_flight:
            if self._fatal_error:
                raise self._fatal_error
            try:
                return await self._request_with_retries(prompt)
            except CompletionError as error:
                if error.status in FATAL_STATUSES:
                    self._fatal_error = _fatal_error(self._settings, error.status)
                    raise self._fatal_error from None
                return {"text": None, "log_probabilities": None, "tokens": None, "error": str(error)}

    async def _request_once(self, prompt: str) -> dict[str, Any]:
        settings = self._settings
        body = request_body(prompt, self._request, settings.model, settings.structured_outputs, settings.extra_body)
        try:
            async with asyncio.timeout(settings.timeout_s):
                response = await self._http.post(f"{settings.url}/chat/completions", json=body)
        except TimeoutError:
            raise CompletionError(f"no answer within {settings.timeout_s:g} s", temporary=True) from None
        except httpx.RequestError as error:
            raise CompletionError(f"no connection: {type(error).__name__}", temporary=True) from None
        try:
            return read_answer(response.status_code, response.content, self._request)
        except CompletionError as error:
            error.wait_s = retry_after_s(response.headers.get("Retry-After", ""), datetime.now(UTC))
            raise

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, CompletionError) and error.wait_s is not None:
            return min(error.wait_s, self._settings.max_wait_s)
        return self._backoff(state)


class _Requester:
    """A Ray Data actor with a `Client`, whose event loop runs in a thread of its own."""

    def __init__(self, settings: EndpointSettings, request: Request, key: SecretStr | None) -> None:
        self._client = Client(settings, request, key)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __call__(self, prompts: pa.Table) -> pa.Table:
        coroutine = self._client.answers(prompts["prompt"].to_pylist())
        answers = asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        keys = prompts["key"].to_pylist()
        rows = [{"key": key, **answer} for key, answer in zip(keys, answers, strict=True)]
        return pa.Table.from_pylist(rows, schema=ANSWERS)


def read_api_key(variable: str | None) -> SecretStr | None:
    """Return the API key in an environment variable, in a form that prints as stars; None for no variable.

    Raises `UsageError` if the variable is not set, or holds characters that no key has.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"api_key_env: the environment variable {variable!r} is not set")
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"api_key_env: the environment variable {variable!r} holds characters that no key has")
    return SecretStr(key)


def retry_after_s(header: str, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, or None if it is empty or unreadable.

    Source: RFC 9110, section 10.2.3; the header holds seconds or a date.
    """
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def _fatal_error(settings: EndpointSettings, status: int) -> RaylevanceError:
    if status == 404:
        reason = f"no model {settings.model!r}, or no chat completions at this address"
    elif settings.api_key_env:
        reason = f"the server refused the key in the environment variable {settings.api_key_env!r}"
    else:
        reason = "the server requires a key: name the environment variable that holds it in api_key_env"
    return RaylevanceError(f"{settings.url}: HTTP {status}: {reason}")
