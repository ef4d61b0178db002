"""A server of chat completions whose replies a test writes."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


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


def error_body(**error: Any) -> bytes:
    return json.dumps({"error": error}).encode()
