"""Calls to the processes that replicas share, by the handles of their deployments.

MessagePack has no exceptions, so a method that others call returns a `Reply`, and `answer_of` raises what failed.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from raylevance.errors import RaylevanceError, UsageError, one_line
from serve.problems import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
Reply = tuple[Any, tuple[str, str] | None]
"""The result of a call, and the name and the message of the error where it failed."""
ERRORS: dict[str, type[Exception]] = {error.__name__: error for error in (RaylevanceError, UsageError)}

log = logging.getLogger("ray.serve")


def replies(method: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Reply]]:
    """Make a method return a `Reply`. An error that is not one of ours is logged here, with its traceback."""

    @wraps(method)
    async def reply(*args: P.args, **kwargs: P.kwargs) -> Reply:
        try:
            return await method(*args, **kwargs), None
        except Exception as error:
            name = type(error).__name__
            if name not in ERRORS:
                log.exception("%s failed", method.__qualname__)
            return None, (name, str(error) if name in ERRORS else one_line(error))

    return reply


def by_value(handle: Any) -> Any:
    """Return a handle whose arguments and results travel as MessagePack over gRPC, neither pickled nor stored."""
    return handle.options(_by_reference=False, request_serialization="msgpack", response_serialization="msgpack")


async def answer_of(call: Awaitable[Reply], what: str) -> Any:
    """Return the result of a call. Raises what it raised, and `Unavailable` where no process of `what` answers."""
    return result_of(await _arrived(call, what))


async def tell_all(handle: Any, method: str, arguments: tuple[Any, ...], what: str) -> None:
    """Call a method in every process behind `handle`. Raises as `answer_of` does."""
    # Ray waits for a process that is being started before it calls one, but not before it calls all.
    await answer_of(getattr(handle, method).remote(*arguments), what)
    for reply in await _arrived(handle.broadcast(method, *arguments).results_async(), what):
        result_of(reply)


def result_of(reply: Reply) -> Any:
    """Return the result of a call. Raises what it raised: a `RuntimeError` for an error that is not one of ours."""
    result, failure = reply
    if failure is None:
        return result
    name, message = failure
    raise ERRORS[name](message) if name in ERRORS else RuntimeError(f"{name}: {message}")


async def _arrived(call: Awaitable[T], what: str) -> T:
    import grpc  # type: ignore[import-untyped]
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import RayServeException

    try:
        return await call
    except (RayActorError, RayServeException) as error:
        raise Unavailable(f"{what} do not answer ({type(error).__name__})") from error
    except grpc.aio.AioRpcError as error:  # the process ended, or gave the call up, while it answered
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise RuntimeError(f"a message to or from {what}: {error.details()}") from error
        raise Unavailable(f"{what} do not answer ({error.code().name})") from error
