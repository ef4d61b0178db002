"""Calls between the processes of the server: what fails there is known here, and none is asked before it is there."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from raylevance.errors import RaylevanceError, UsageError
from serve.handles import answer_of, by_value, replies, result_of, tell_all
from serve.problems import Unavailable
from serve.server import free_port
from serve.shards import ShardProcesses

LOADS_FOR_S = 6.0
LARGE = 9 << 20
"""More bytes than gRPC takes by default."""


class Slow:
    """A process that needs a while to load, and fails in several ways."""

    def __init__(self) -> None:
        self._loaded = False

    async def check_health(self) -> None:
        if not self._loaded:
            await asyncio.sleep(LOADS_FOR_S)
            self._loaded = True

    @replies
    async def load(self, name: str) -> str:
        if not self._loaded:
            raise RuntimeError("asked before it was there")
        return name.upper()

    @replies
    async def raises(self, kind: str) -> None:
        raise {"ours": RaylevanceError("shards/1: damaged\nbuild it again"), "bug": IndexError("7")}[kind]

    @replies
    async def bytes(self, size: int) -> bytes:
        return b"x" * size

    async def dies(self) -> None:
        import os

        os._exit(1)


class Asks:
    """A process that asks `Slow` when Ray first asks for its health, and writes what it found."""

    def __init__(self, handle: Any, file: str) -> None:
        self._handle, self._file, self._asked = by_value(handle), Path(file), False

    async def check_health(self) -> None:
        if self._asked:
            return
        self._asked = True
        slow = self._handle
        found = [
            await told(lambda: tell_all(slow, "load", ("a",), "the slow")),
            await told(lambda: tell_all(slow, "raises", ("ours",), "the slow")),
            await told(lambda: answer_of(slow.raises.remote("bug"), "the slow")),
            await told(lambda: answer_of(slow.load.remote("b"), "the slow")),
            str(len(await answer_of(slow.bytes.remote(LARGE), "the slow"))),
            await told(lambda: answer_of(slow.dies.remote(), "the slow")),
        ]
        self._file.write_text("\n".join(found))


async def told(call: Callable[[], Awaitable[Any]]) -> str:
    try:
        return str(await call())
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", "|")


@pytest.mark.ray
def test_processes_are_waited_for_and_their_errors_arrive(ray_cluster: None, tmp_path: Path) -> None:
    options: Any = {"ray_actor_options": {"num_cpus": 0.2}}
    slow = serve.deployment(**options)(Slow).bind()
    file = tmp_path / "found"
    serve.start(http_options={"host": "127.0.0.1", "port": free_port("127.0.0.1", 0)})
    try:
        serve.run(serve.deployment(**options)(Asks).bind(slow, str(file)), name="calls")
    finally:
        serve.shutdown()
    assert file.read_text().split("\n") == [
        "None",
        "RaylevanceError: shards/1: damaged|build it again",
        "RuntimeError: IndexError: 7",
        "B",
        str(LARGE),
        "Unavailable: the slow do not answer (ActorUnavailableError)",
    ]


def test_a_reply_has_the_result_or_what_failed() -> None:
    @replies
    async def work(error: Exception | None) -> int:
        if error:
            raise error
        return 3

    assert result_of(asyncio.run(work(None))) == 3
    for ours in (RaylevanceError("no file"), UsageError("no task")):
        with pytest.raises(type(ours), match=str(ours)) as raised:
            result_of(asyncio.run(work(ours)))
        assert type(raised.value) is type(ours)
    with pytest.raises(RuntimeError, match="KeyError: 'k'"):
        result_of(asyncio.run(work(KeyError("k"))))


def test_shards_that_take_too_long_are_given_up() -> None:
    """The searching thread goes on, the event loop was free meanwhile, and the processes are told."""
    ended: list[str] = []

    class Method:
        def remote(self, *_: object) -> Awaitable[Any]:
            async def hangs() -> None:
                try:
                    await asyncio.sleep(60)
                finally:
                    ended.append("cancelled")

            return hangs()

    class Handle:
        nearest = Method()

        def options(self, **_: object) -> "Handle":
            return self

    async def ask() -> None:
        processes = ShardProcesses([Handle(), Handle()], 0.3)
        with pytest.raises(Unavailable, match=r"the shards of the index do not answer within 0\.3 s"):
            await asyncio.to_thread(processes.ask, "nearest", "index/a@1", [(), (), ()])
        await asyncio.sleep(0.05)

    started = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - started < 20
    assert ended == ["cancelled"] * 3
