"""The fields that requests share, and what every request and every answer has."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, JsonValue, StringConstraints

from raylevance.config import Settings

MAX_BATCH = 32
"""The largest number of requests in a batch."""


def not_blank(text: str) -> str:
    """Return `text` as it is. Raises `ValueError` if it has nothing but spaces."""
    if not text.strip():
        raise ValueError("is blank")
    return text


Grade = Literal[0, 1, 2]
Query = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=512), AfterValidator(not_blank)
]
ProductId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Request(Settings):
    """The base of request bodies: types are not converted."""

    model_config = ConfigDict(strict=True)


def examples(*bodies: JsonValue) -> ConfigDict:
    """Return the settings of a request whose documentation shows these `bodies`."""
    return ConfigDict(strict=True, json_schema_extra={"examples": list(bodies)})


class Versions(Settings):
    """The artifacts behind an answer, each as `kind/name@version`, and the version of the code.

    `bundle` names the bundle that listed them; it is null where the server was started with artifacts of its own
    choice. A part that the server does not have is null.
    """

    bundle: str | None = None
    index: str
    encoder: str
    tables: str
    classifier: str | None = None
    scorer: str | None = None
    items: str | None = None
    raylevance: str


class Reply(Settings):
    """The fields of every answer. `query_id` names the answer in events, and `took_ms` is the time spent on it."""

    query_id: str
    took_ms: float
    versions: Versions
