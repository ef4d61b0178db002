"""Calls to the processes that searchers share, by the handles of their deployments."""

from collections.abc import Awaitable
from typing import Any, TypeVar

from serve.problems import Unavailable

T = TypeVar("T")


def by_value(handle: Any) -> Any:
    """Return a handle whose arguments and results travel as MessagePack over gRPC, neither pickled nor stored."""
    return handle.options(_by_reference=False, request_serialization="msgpack", response_serialization="msgpack")


async def answer_of(response: Awaitable[T], what: str) -> T:
    """Return the result of a call. Raises `Unavailable` where no process of `what` answers."""
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import RayServeException

    try:
        return await response
    except (RayActorError, RayServeException) as error:
        raise Unavailable(f"{what} do not answer ({type(error).__name__})") from error
