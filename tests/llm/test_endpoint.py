"""An endpoint that misbehaves: each row gets its answer or a reason, and only a fatal error stops the job."""

import asyncio
import math
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from raylevance.errors import RaylevanceError, UsageError
from raylevance.llm.endpoint import Client, EndpointSettings, read_api_key, retry_after_s
from raylevance.llm.language_model import Request
from tests.llm.scripted_server import Reply, Server, completion, error_body, serving

KEY = "sk-do-not-print-me"
WRITE = Request(max_tokens=20)
GRADES = Request(choices=("0", "1", "2"))


def ask(server: Server, prompts: list[str], request: Request = WRITE, **settings: Any) -> list[dict[str, Any]]:
    chosen = EndpointSettings(**{"url": server.url, "model": "m", "max_wait_s": 0.05, "timeout_s": 0.5} | settings)

    async def run() -> list[dict[str, Any]]:
        async with Client(chosen, request, SecretStr(KEY)) as client:
            return await client.answers(prompts)

    return asyncio.run(run())


PASSING = {
    "told to wait": Reply(429, error_body(code="rate_limit_exceeded"), (("Retry-After", "0"),)),
    "told to wait for longer than is allowed": Reply(429, b"{}", (("Retry-After", "86400"),)),
    "request timeout": Reply(408),
    "internal error": Reply(500, b"oops"),
    "overloaded": Reply(503, b"<html>busy</html>"),
    "a page of a proxy": Reply(200, b"<html>sign in</html>"),
    "another JSON": Reply(200, b'{"choices": []}'),
    "an error sent as a success": Reply(200, error_body(message="upstream", code=502)),
    "an error without a code sent as a success": Reply(200, b'{"error": "model is loading"}'),
    "a body cut in the middle": completion("fine")._replace(sent=0.5),
    "a connection closed without a word": Reply(reset=True),
    "a hang before the body": completion("fine")._replace(sent=0.0, hang_s=1.5),
    "a hang within the body": completion("fine")._replace(sent=0.5, hang_s=1.5),
}


def test_what_passes_is_asked_again() -> None:
    prompts = list(PASSING)
    with serving(lambda prompt, attempt: PASSING[prompt] if attempt == 1 else completion(f"{prompt}!")) as server:
        answers = ask(server, prompts)
        assert {prompt: answer["text"] for prompt, answer in zip(prompts, answers, strict=True)} == {
            prompt: f"{prompt}!" for prompt in prompts
        }
        assert server.attempts == dict.fromkeys(prompts, 2)
    assert all(answer["error"] == "" and answer["tokens"] == 7 for answer in answers)


QUOTING = error_body(message="'too long' is", type="invalid", code="too_many", param="messages")
FLAT = b'{"object": "error", "type": "BadRequest", "code": 422, "message": "flat"}'
LASTING = {
    "too long": (Reply(400, QUOTING), "HTTP 400: invalid, too_many, messages"),
    "a page": (Reply(400, b"<html>a page</html>"), "HTTP 400"),
    "flat": (Reply(422, FLAT), "HTTP 422: BadRequest"),
    "elsewhere": (Reply(307, headers=(("Location", "/v2"),)), "HTTP 307"),
    "refused as a success": (Reply(200, error_body(message="no", code=400)), "HTTP 400"),
    "no text": (completion(None), "the answer has no text"),
}


def test_what_lasts_is_asked_once_and_named_without_the_prompt() -> None:
    with serving(lambda prompt, attempt: LASTING[prompt][0]) as server:
        answers = ask(server, list(LASTING))
        assert [answer["error"] for answer in answers] == [error for _, error in LASTING.values()]
        assert server.attempts == dict.fromkeys(LASTING, 1)
    assert all(answer["text"] is None for answer in answers)


def test_patience_ends() -> None:
    with serving(lambda prompt, attempt: Reply(500, error_body(code=prompt))) as server:
        assert ask(server, ["a b"], max_retries=2)[0]["error"] == "HTTP 500"
        assert server.attempts == {"a b": 3}
        assert ask(server, ["c d"], max_retries=0)[0]["error"] == "HTTP 500"
        assert server.attempts["c d"] == 1
    assert ask(server, ["nobody"], max_retries=1)[0]["error"] == "no connection: ConnectError"


def test_the_server_says_how_long_to_wait() -> None:
    asked = Reply(429, headers=(("Retry-After", "1"),))
    with serving(lambda prompt, attempt: asked if attempt == 1 else completion("fine")) as server:
        assert ask(server, ["a"], max_wait_s=60)[0]["text"] == "fine"
        assert server.times[1] - server.times[0] >= 1


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    assert retry_after_s("90", now) == 90
    assert retry_after_s(format_datetime(now.replace(minute=3), usegmt=True), now) == 60
    assert retry_after_s("Mon, 04 May 2026 03:03:01 -0000", now) == 60
    assert retry_after_s(format_datetime(now.replace(year=2025), usegmt=True), now) == 0
    assert retry_after_s("-5", now) == 0
    assert retry_after_s("", now) is None
    assert retry_after_s("soon", now) is None


def test_requests_overlap_and_answers_keep_their_prompts() -> None:
    together = threading.Barrier(8)

    def last_comes_first(prompt: str, attempt: int) -> Reply:
        together.wait(timeout=20)
        time.sleep(0.02 * (16 - int(prompt)))
        return completion(prompt)

    prompts = [str(number) for number in range(16)]
    with serving(last_comes_first) as server:
        assert [answer["text"] for answer in ask(server, prompts, concurrency=8, timeout_s=20)] == prompts
        assert server.peak == 8


@pytest.mark.parametrize(("status", "named"), [(401, "SHOP_KEY"), (403, "SHOP_KEY"), (404, "no model 'm'")])
def test_what_no_row_can_pass_stops_the_job_in_one_line(status: int, named: str) -> None:
    reply = Reply(status, error_body(message=f"Incorrect API key provided: {KEY}"))
    with serving(lambda prompt, attempt: reply) as server:
        with pytest.raises(RaylevanceError, match=f"HTTP {status}: .*{named}") as raised:
            ask(server, [str(number) for number in range(100)], concurrency=4, api_key_env="SHOP_KEY")
        assert sum(server.attempts.values()) <= 8
    assert KEY not in str(raised.value) and "\n" not in str(raised.value)


def test_the_key_is_read_from_the_environment_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", f" {KEY}\n")
    key = read_api_key("SHOP_KEY")
    assert key is not None and key.get_secret_value() == KEY
    assert KEY not in f"{key} {key!r}"
    assert read_api_key(None) is None
    monkeypatch.setenv("SHOP_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(UsageError, match="'SHOP_KEY' holds characters") as raised:
        read_api_key("SHOP_KEY")
    assert KEY not in str(raised.value)
    monkeypatch.delenv("SHOP_KEY")
    with pytest.raises(UsageError, match="'SHOP_KEY' is not set"):
        read_api_key("SHOP_KEY")


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host", "http://", "http://user:secret@host/v1", "http://host/v1?k=1"]
)
def test_a_url_that_is_no_base(url: str) -> None:
    with pytest.raises(ValueError, match="expected the base URL of a server"):
        EndpointSettings(url=url, model="m")


def listing(probabilities: dict[str, float], first: str) -> list[dict[str, Any]]:
    entries = [{"token": token, "logprob": math.log(value)} for token, value in probabilities.items()]
    return [{"token": first, "logprob": math.log(probabilities[first]), "top_logprobs": entries}]


SCORED = {
    "all listed": (listing({"2": 0.6, "1": 0.3, "0": 0.05, "x": 0.01}, "2"), [0.05, 0.3, 0.6]),
    "white space adds up": (listing({"2": 0.4, " 2": 0.2, "1": 0.3, "0": 0.1}, "2"), [0.1, 0.3, 0.6]),
    "the least listed bounds": (listing({"2": 0.6, "1": 0.1, "x": 0.02}, "2"), [0.02, 0.1, 0.6]),
    "the rest bounds": (listing({"2": 0.9, "1": 0.095}, "2"), [0.005, 0.095, 0.9]),
    "the picked token alone": ([{"token": "2", "logprob": math.log(0.9)}], [0.1, 0.1, 0.9]),
}


def test_log_probabilities_of_the_choices() -> None:
    with serving(lambda prompt, attempt: completion("2", SCORED[prompt][0])) as server:
        answers = ask(server, list(SCORED), GRADES)
    for answer, (_, masses) in zip(answers, SCORED.values(), strict=True):
        assert answer["error"] == "" and answer["text"] is None
        np.testing.assert_allclose(np.exp(answer["log_probabilities"]), np.array(masses) / sum(masses), atol=1e-9)


def test_an_answer_without_log_probabilities_is_no_label() -> None:
    """It would be a grade of probability 1. A text needs none."""
    with serving(lambda prompt, attempt: completion("2")) as server:
        answers = ask(server, ["p"], GRADES)
        assert [answer["text"] for answer in ask(server, ["p"], Request(max_tokens=9))] == ["2"]
    assert [answer["error"] for answer in answers] == [
        "the server returns no log-probabilities, which tell the confidence of a grade"
    ]
    assert answers[0]["log_probabilities"] is None


def test_an_answer_that_is_no_choice() -> None:
    with serving(lambda prompt, attempt: completion(prompt, listing({"2": 0.5, "The": 0.5}, "The"))) as server:
        answers = ask(server, ["The", " 2"], GRADES)
    assert [answer["error"] for answer in answers] == ["the answer is not one of the choices", ""]


def test_an_answer_that_is_no_json() -> None:
    replies = {"good": completion('{"a": 1}'), "prose": completion("Sure!"), "cut": completion('{"a', None, "length")}
    with serving(lambda prompt, attempt: replies[prompt]) as server:
        answers = ask(server, list(replies), Request(json_schema={"type": "object"}, max_tokens=9))
    assert [(answer["text"], answer["error"]) for answer in answers] == [
        ('{"a": 1}', ""),
        (None, "the answer is not JSON"),
        (None, "the answer is not JSON: cut off at max_tokens"),
    ]


def test_what_is_sent() -> None:
    with serving(lambda prompt, attempt: completion("2")) as server:
        ask(server, ["p"], GRADES)
        ask(server, ["p"], GRADES, structured_outputs=True, extra_body={"seed": None, "top_logprobs": 5, "n": 1})
        ask(server, ["p"], Request(max_tokens=9, stop=("\n",), temperature=0.5, seed=3), structured_outputs=True)
        ask(server, ["p"], Request(max_tokens=9, json_schema={"type": "integer"}), structured_outputs=True)
        plain, constrained, free, schema = server.bodies
        assert server.keys == {f"Bearer {KEY}"}
    common = {
        "model": "m",
        "messages": [{"role": "user", "content": "p"}],
        "temperature": 0,
        "seed": 0,
        "max_tokens": 9,
    }
    scored = common | {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    assert plain == scored
    del scored["seed"]
    assert constrained == scored | {"top_logprobs": 5, "n": 1, "structured_outputs": {"choice": ["0", "1", "2"]}}
    assert free == common | {"temperature": 0.5, "seed": 3, "stop": ["\n"]}
    wanted = {"name": "answer", "schema": {"type": "integer"}}
    assert schema == common | {"response_format": {"type": "json_schema", "json_schema": wanted}}
