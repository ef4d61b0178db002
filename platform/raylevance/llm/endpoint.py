"""Any server of OpenAI-compatible chat completions as a language model, asked through Ray Data.

Ray's own HTTP stage awaits the requests of a batch one by one, takes an error body for an answer, and fails the job
over a body that is not JSON; here each row is asked for on its own, and its failure is its own.
"""

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx
import pyarrow as pa
import ray.data
import tenacity
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator

from raylevance.config import Settings
from raylevance.errors import RaylevanceError, UsageError
from raylevance.llm.chat_completion import CompletionError, read_answer, request_body
from raylevance.llm.language_model import ANSWERS, Request

BLOCK = 64
"""Rows that come back together: what a job that is killed has to ask for again."""

ASKER_CPUS = 0.5
"""Another share than the operators before it have: Ray would fuse those with it, and blocks would be files again."""

HOPELESS = (401, 403, 404)
"""Wrong key, no right, no such model or address: what one row gets, all do."""


class EndpointSettings(Settings):
    """A server and how it is asked. `url`: its base, such as http://host:8000/v1.

    `api_key_env`: the environment variable that holds the key, never the key. `concurrency`: requests in flight.
    `timeout_s`: of one attempt, to its last byte; `max_wait_s`: between two, whatever the server asks for.
    `structured_outputs`: the server has vLLM's field of that name; others refuse it. `extra_body`: more fields of each
    request; null leaves one out, as `{max_tokens: null, max_completion_tokens: 1}`.
    """

    url: str
    model: str = Field(min_length=1)
    api_key_env: str | None = None
    concurrency: PositiveInt = 32
    timeout_s: PositiveFloat = 60
    max_retries: int = Field(5, ge=0)
    max_wait_s: PositiveFloat = 60
    structured_outputs: bool = False
    extra_body: Mapping[str, Any] = {}

    @field_validator("url")
    @classmethod
    def _base_url(cls, url: str) -> str:
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL()
        if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query:
            raise ValueError("expected the base of a server, such as http://host:8000/v1, without user or query")
        return url.rstrip("/")


class Endpoint:
    """A `LanguageModel` on a server that is there already."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings

    def answer(self, prompts: ray.data.Dataset, request: Request) -> ray.data.Dataset:
        """Rows of `ANSWERS` for rows of `PROMPTS`, lazily, a block as soon as it is answered.

        Raises `RaylevanceError` where the key is missing. A wrong key or model raises it, wrapped by Ray
        (`data.parts.own_error`), from whoever reads the answers.
        """
        # Each call waits for its slowest row; the others keep the server busy meanwhile.
        calls = 2 + 2 * self.settings.concurrency // BLOCK
        answers = prompts.repartition(target_num_rows_per_block=BLOCK).map_batches(
            _Asker,
            fn_constructor_args=(self.settings, request, read_key(self.settings.api_key_env)),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=1, max_concurrent_calls_per_actor=calls, enable_true_multi_threading=True
            ),
            num_cpus=ASKER_CPUS,
        )
        answers.context.raise_original_map_exception = True
        return answers


class Client:
    """Asks one server for one kind of answer, within one event loop."""

    def __init__(self, settings: EndpointSettings, request: Request, key: SecretStr | None) -> None:
        self._settings, self._request = settings, request
        self._room = asyncio.Semaphore(settings.concurrency)
        self._hopeless: RaylevanceError | None = None
        self._backoff = tenacity.wait_random_exponential(max=settings.max_wait_s)
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            limits=httpx.Limits(max_keepalive_connections=settings.concurrency),
            timeout=None,
        )
        self._persist = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, CompletionError) and error.temporary),
            stop=tenacity.stop_after_attempt(settings.max_retries + 1),
            wait=self._wait_s,
            reraise=True,
        ).wraps(self._attempt)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def answers(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        """The row of `ANSWERS`, but for its key, of each prompt. Raises `RaylevanceError` where none can succeed."""
        return await asyncio.gather(*map(self._answer, prompts))

    async def _answer(self, prompt: str) -> dict[str, Any]:
        # A row that waits keeps its room: a server that asks for patience gets fewer requests.
        async with self._room:
            if self._hopeless:
                raise self._hopeless
            try:
                return await self._persist(prompt)
            except CompletionError as error:
                if error.status in HOPELESS:
                    self._hopeless = _hopeless(self._settings, error.status)
                    raise self._hopeless from None
                return {"text": None, "log_probabilities": None, "tokens": None, "error": str(error)}

    async def _attempt(self, prompt: str) -> dict[str, Any]:
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


class _Asker:
    """A `Client` for the threads of a Ray actor: its loop runs in a thread of its own."""

    def __init__(self, settings: EndpointSettings, request: Request, key: SecretStr | None) -> None:
        self._client = Client(settings, request, key)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __call__(self, prompts: pa.Table) -> pa.Table:
        asked = self._client.answers(prompts["prompt"].to_pylist())
        answers = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        keys = prompts["key"].to_pylist()
        rows = [{"key": key, **answer} for key, answer in zip(keys, answers, strict=True)]
        return pa.Table.from_pylist(rows, schema=ANSWERS)


def read_key(variable: str | None) -> SecretStr | None:
    """The key in the environment `variable`, in a form that prints as stars. Raises `UsageError` where it has none."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"api_key_env: the environment variable {variable!r} is not set")
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"api_key_env: the environment variable {variable!r} holds characters that no key has")
    return SecretStr(key)


def retry_after_s(header: str, now: datetime) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, section 10.2.3: seconds, or a date) asks for; null without one."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def _hopeless(settings: EndpointSettings, status: int) -> RaylevanceError:
    if status == 404:
        reason = f"no model {settings.model!r}, or no chat completions at this address"
    elif settings.api_key_env:
        reason = f"the key in the environment variable {settings.api_key_env!r} is refused"
    else:
        reason = "it wants a key: name the environment variable that holds it in api_key_env"
    return RaylevanceError(f"{settings.url}: HTTP {status}: {reason}")
