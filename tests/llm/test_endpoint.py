"""An endpoint that misbehaves: each row gets its answer or a reason, and only a fatal error stops the job."""

import asyncio
import gc
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data
from pydantic import SecretStr

from raylevance.errors import RaylevanceError, UsageError
from raylevance.judges.guideline import load_guideline
from raylevance.judges.labelling import Labelling, label_pairs
from raylevance.judges.llm_judge import llm_judge
from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.cached_answers import answer_prompts
from raylevance.llm.endpoint import Client, Endpoint, EndpointSettings, read_api_key, retry_after_s
from raylevance.llm.language_model import ANSWERS, PROMPTS, Request
from raylevance.llm.ledger import Ledger

KEY = "sk-do-not-print-me"
WRITE = Request(max_tokens=20)
GRADES = Request(choices=("0", "1", "2"))


class Reply(NamedTuple):
    """A response. `sent` is the share of the body that is sent before the connection closes or waits for `hang_s`."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    sent: float = 1.0
    hang_s: float = 0.0
    reset: bool = False


Script = Callable[[str, int], Reply]
"""From a prompt and the number of times that it was sent, 1 at first, to what is replied."""


def completion(text: str | None, logprobs: Any = None, finish_reason: str = "stop") -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    choices = [choice | ({"logprobs": {"content": logprobs}} if logprobs else {})]
    return Reply(
        body=json.dumps({"object": "chat.completion", "choices": choices, "usage": {"total_tokens": 7}}).encode()
    )


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.lock = threading.Lock()
        self.attempts: Counter[str] = Counter()
        self.times: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.in_flight = self.peak = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with server.lock:
            server.attempts[prompt] += 1
            attempt = server.attempts[prompt]
            server.times.append(time.monotonic())
            server.bodies.append(body)
            server.keys.add(self.headers["Authorization"])
            server.in_flight += 1
            server.peak = max(server.peak, server.in_flight)
        try:
            reply = server.script(prompt, attempt) if self.path == "/v1/chat/completions" else Reply(404)
        finally:
            with server.lock:
                server.in_flight -= 1
        self.reply(reply)

    def reply(self, reply: Reply) -> None:
        if reply.reset:
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        cut = int(len(reply.body) * reply.sent)
        self.wfile.write(reply.body[:cut])
        time.sleep(reply.hang_s)
        self.wfile.write(reply.body[cut:] if reply.hang_s else b"")
        self.close_connection = cut < len(reply.body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    with Server(script) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: Server, prompts: list[str], request: Request = WRITE, **settings: Any) -> list[dict[str, Any]]:
    chosen = EndpointSettings(**{"url": server.url, "model": "m", "max_wait_s": 0.05, "timeout_s": 0.5} | settings)

    async def run() -> list[dict[str, Any]]:
        async with Client(chosen, request, SecretStr(KEY)) as client:
            return await client.answers(prompts)

    return asyncio.run(run())


def error_body(**error: Any) -> bytes:
    return json.dumps({"error": error}).encode()


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
    "none": (None, [0.0, 0.0, 1.0]),
}


def test_log_probabilities_of_the_choices() -> None:
    with serving(lambda prompt, attempt: completion("2", SCORED[prompt][0])) as server:
        answers = ask(server, list(SCORED), GRADES)
    for answer, (_, masses) in zip(answers, SCORED.values(), strict=True):
        assert answer["error"] == "" and answer["text"] is None
        np.testing.assert_allclose(np.exp(answer["log_probabilities"]), np.array(masses) / sum(masses), atol=1e-9)


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


@pytest.mark.ray
def test_one_bad_row_of_fifty_and_a_refused_key(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    monkeypatch.setattr("raylevance.llm.endpoint.BLOCK_ROWS", 16)
    rows = [{"key": f"k{number}", "prompt": f"prompt {number}"} for number in range(50)]
    pq.write_table(pa.Table.from_pylist(rows, PROMPTS), tmp_path / "prompts.parquet")

    def one_bad(prompt: str, attempt: int) -> Reply:
        time.sleep(0.05)
        return Reply(400, error_body(type="invalid")) if prompt == "prompt 17" else completion(prompt)

    with serving(one_bad) as server:
        settings = EndpointSettings(url=server.url, model="m", api_key_env="SHOP_KEY", concurrency=8)
        prompts = ray.data.read_parquet(str(tmp_path / "prompts.parquet"))
        answers = Endpoint(settings).answer(prompts, WRITE)
        blocks = list(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
        table = pa.concat_tables(blocks)
        assert max(map(len, blocks)) <= 16
        assert server.keys == {f"Bearer {KEY}"} and 1 < server.peak <= 8
    assert table.schema.equals(ANSWERS)
    assert {row["key"]: row["error"] for row in table.to_pylist() if row["error"]} == {"k17": "HTTP 400: invalid"}
    assert {row["key"]: row["text"] for row in table.to_pylist()} == {
        row["key"]: None if row["key"] == "k17" else row["prompt"] for row in rows
    }

    pq.write_table(
        pa.table({"query": ["mug"] * 9, "product_text": [f"p{n}" for n in range(9)]}), tmp_path / "p.parquet"
    )
    with serving(lambda prompt, attempt: Reply(401)) as server, Ledger(tmp_path / "ledger") as ledger:
        endpoint = Endpoint(settings.model_copy(update={"url": server.url}))
        judge = llm_judge(endpoint, JudgePrompt.zero_shot(load_guideline()))
        with pytest.raises(
            RaylevanceError, match="HTTP 401: the server refused the key in the environment variable 'SHOP_KEY'"
        ):
            label_pairs(tmp_path / "p.parquet", tmp_path / "out.parquet", Labelling(judge, "v"), ledger, tmp_path / "w")


def test_the_actors_of_a_refused_request_are_freed(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Their CPUs are free for the next data set, although the error is still at hand and no cycle is collected."""
    rows = pa.table({"key": ["a"], "prompt": ["b"]}, PROMPTS)
    cpus = ray.cluster_resources()["CPU"]
    with (
        serving(lambda prompt, attempt: Reply(401)) as server,
        Ledger(tmp_path / "ledger") as ledger,
        monkeypatch.context() as patched,
    ):
        # pytest keeps the log records of a test, and Ray Data's hold the traceback.
        patched.setattr(type(caplog.handler), "emit", lambda handler, record: None)
        gc.disable()
        try:
            with pytest.raises(RaylevanceError, match="HTTP 401") as raised:
                answer_prompts(
                    rows, Endpoint(EndpointSettings(url=server.url, model="m")), Request(), ledger, tmp_path / "work"
                )
            assert raised.value.__context__ is None
            deadline = time.monotonic() + 60
            while ray.available_resources().get("CPU") != cpus:
                assert time.monotonic() < deadline, "an actor keeps its CPUs"
                time.sleep(0.1)
        finally:
            gc.enable()
