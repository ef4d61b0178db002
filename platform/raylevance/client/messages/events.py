"""Messages of `POST /v1/events`, in the fields of User Behavior Insights (UBI)."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from raylevance.client.messages.fields import Name, ProductId, Request, examples, not_blank
from raylevance.config import Settings
from raylevance.data.single_values import id_of
from raylevance.data.times import time_of

MAX_EVENTS = 500
LAST_POSITION = 2**31 - 1
MOST_AHEAD = timedelta(days=1)
"""How far ahead of our clock the time of an event may be. One of next year would decide where a log is cut to test."""


def _importable(value: str) -> str:
    """Return an id as it is. Raises `ValueError` for one that an import of events would refuse."""
    id_of(not_blank(value))
    return value


Id = Annotated[Name, AfterValidator(_importable)]


class EventObject(Request):
    """The product that an event is about."""

    object_id: Annotated[ProductId, AfterValidator(_importable)]


class EventPosition(Request):
    """Where the product stood in the answer, counted from 1."""

    ordinal: Annotated[int, Field(ge=1, le=LAST_POSITION)]


class EventAttributes(Request):
    """The product of an event, and its position where known."""

    object: EventObject
    position: EventPosition | None = None


class Event(Request):
    """An act of a user on a product of an answer, in the fields of User Behavior Insights (UBI)."""

    event_id: Name = Field(description="Unique among the events of its query_id: one that is sent again is kept once.")
    action_name: Literal["exposure", "click", "cart", "purchase"]
    query_id: Id = Field(description="The `query_id` of the answer.")
    timestamp: datetime = Field(
        description="When it happened, with its offset from UTC, to the millisecond.", strict=False
    )
    client_id: Id | None = Field(default=None, description="The user.")
    session_id: Id | None = None
    event_attributes: EventAttributes

    @field_validator("timestamp")
    @classmethod
    def _in_utc(cls, timestamp: datetime) -> datetime:
        if timestamp.tzinfo is None:
            raise ValueError("timestamp has no offset from UTC, such as Z")
        time = time_of(timestamp)
        assert time is not None, "only texts and numbers may say no time"
        if time > datetime.now(UTC) + MOST_AHEAD:
            raise ValueError(f"timestamp {time:%Y-%m-%dT%H:%M:%SZ} is more than a day ahead; is the clock right?")
        return time


class EventBatch(Request):
    """The body of `POST /v1/events`."""

    model_config = examples(
        {
            "events": [
                {
                    "event_id": "6f1c",
                    "action_name": "click",
                    "query_id": "b4a0",
                    "timestamp": "2026-05-01T10:00:00Z",
                    "client_id": "u1",
                    "event_attributes": {"object": {"object_id": "B07X1"}, "position": {"ordinal": 2}},
                }
            ]
        }
    )

    events: Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)]


class EventsKept(Settings):
    """The answer of `POST /v1/events`: the events are on disk."""

    accepted: int
    repeated: int = Field(description="Events among them that repeat the query_id and event_id of an earlier one.")
