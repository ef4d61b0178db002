"""What the server says of itself, and the body of every failure."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from raylevance.client.messages.fields import Versions
from raylevance.config import Settings


class Refused(Settings):
    """A bundle that was not taken into service, and why."""

    bundle: str
    reason: str
    time: datetime


class Served(Versions):
    """The answer of `GET /v1/versions`: what this replica answers from, since when, and what it refused."""

    loaded: datetime
    events: bool = Field(description="Whether `POST /v1/events` keeps events.")
    refused: list[Refused] = Field(description="The last bundles that were refused, newest first.")


class Readiness(Settings):
    """The answer of `/readyz` when the models are loaded and searches work."""

    status: Literal["ready"] = "ready"
    versions: Versions | None = Field(description="Null where tokens are needed: `/v1/versions` has them.")


class Health(Settings):
    """The answer of `/healthz`: the process is running."""

    status: Literal["ok"] = "ok"


class Problem(Settings):
    """The body of every answer that is not 2xx, as `application/problem+json` (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(description="The name of the status.")
    status: int
    detail: str = Field(description="One line for people: what is wrong, where, and what to do.")
    code: str = Field(description="The kind of failure, for programs.")
    request_id: str = Field(description="The id of the request in the server's log, also in its X-Request-Id header.")
