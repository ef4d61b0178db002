"""The messages that go over HTTP: requests, answers, and the body of every failure.

Requests are strict: an unknown field, or a value of another type, is refused with status 422. Every answer carries the
versions of the artifacts that it was made from.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from raylevance.config import Settings
from raylevance.data.single_values import id_of
from raylevance.data.times import time_of
from raylevance.index.filters import Filters
from raylevance.index.ranking import Mode

MAX_BATCH = 32
"""The largest number of requests in a batch."""
MAX_TRIGGERS = 100
MAX_PAIRS = 100
MAX_EXCLUDED = 1000
MAX_EVENTS = 500

LAST_POSITION = 2**31 - 1


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _importable(value: str) -> str:
    """Return an id as it is. Raises `ValueError` for one that an import of events would refuse."""
    id_of(_not_blank(value))
    return value


Grade = Literal[0, 1, 2]
Query = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=512), AfterValidator(_not_blank)
]
ProductId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ItemText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Id = Annotated[Name, AfterValidator(_importable)]
Weight = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Request(Settings):
    """The base of request bodies: types are not converted."""

    model_config = ConfigDict(strict=True)


def _examples(*examples: JsonValue) -> ConfigDict:
    return ConfigDict(strict=True, json_schema_extra={"examples": list(examples)})


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


class Reply(Settings):
    """The fields of every answer. `query_id` names the answer in events, and `took_ms` is the time spent on it."""

    query_id: str
    took_ms: float
    versions: Versions


class SearchRequest(Request):
    """The body of `POST /v1/search`."""

    model_config = _examples(
        {"query": "wireless earbuds"},
        {
            "query": "garden hose 50 ft",
            "k": 5,
            "mode": "dense",
            "filters": {"brand": ["Flexzilla"], "locale": "us"},
            "minimum_grade": 1,
        },
    )

    query: Query = Field(description="Free text.")
    k: PositiveInt = Field(
        default=10, description="The number of hits at most, from 1 to the server's limit (100 by default)."
    )
    mode: Mode = Field(default="hybrid", description="Rank by the encoder, by BM25, or by both.")
    filters: Filters | None = Field(
        default=None,
        description="Return only products that match all of these. Null, and an empty list of brands or category "
        "levels, place no condition.",
    )
    minimum_grade: Grade = Field(default=0, description="Return only products that the encoder grades at least this.")
    explain: bool = Field(default=False, description="Add to each hit why it ranks where it does.")


class Explanation(Settings):
    """Why a product was found."""

    words: list[str] = Field(description="The words of the query that its title, brand or category has, by stem.")
    relevance: float | None = Field(description="The scorer's probability of relevance; null without a scorer.")


class Hit(Settings):
    """A product of an answer."""

    product_id: str
    title: str
    brand: str | None
    category: list[str] | None = Field(description="The category path, from the root.")
    score: float = Field(description="The score that the mode ranks by.")
    grade: Grade | None = Field(
        description="The grade of `dense_score`: 2 relevant, 1 moderately relevant, 0 not relevant. "
        "Null without a `dense_score`, and when the index has no grade bands."
    )
    dense_score: float | None = Field(
        description="The cosine of query and product. Null in mode `lexical`, which does not encode the query, unless "
        "`minimum_grade` asks for grades."
    )
    lexical_score: float | None = Field(description="The BM25 score. Null when BM25 did not find the product.")
    explanation: Explanation | None = Field(default=None, description="Null unless the request asks to explain.")


class Answer(Reply):
    """The hits of a search, best first."""

    query: str
    mode: Mode
    hits: list[Hit]


class ClassifyRequest(Request):
    """The body of `POST /v1/classify`."""

    model_config = _examples({"query": "garden hose 50 ft"}, {"query": "red lamp", "task": "category", "k": 1})

    query: Query
    task: Name | None = Field(default=None, description="One task of the classifier; null for all of them.")
    k: Annotated[int, Field(ge=1, le=100)] = Field(default=3, description="The number of labels of a task at most.")
    minimum: Probability | None = Field(
        default=None,
        description="Leave out labels of a lower probability. Null takes each label's own calibrated threshold, so "
        "that a query may have no label.",
    )


class Label(Settings):
    """A label of a query: its id, its probability, and its path of names from the root of its taxonomy."""

    label: str
    probability: float
    path: list[str]


class Classification(Reply):
    """The labels of a query by task, the most probable first."""

    query: str
    tasks: dict[str, list[Label]]


class Pair(Request):
    """A product to score: one of the catalogue by its id, or any by its text."""

    product_id: ProductId | None = None
    text: ItemText | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Pair":
        if (self.product_id is None) == (self.text is None):
            raise ValueError("give either product_id or text")
        return self


class RelevanceRequest(Request):
    """The body of `POST /v1/relevance`: pairs of one query with up to 100 products."""

    model_config = _examples({"query": "wireless earbuds", "products": [{"text": "Acme bluetooth earbuds, black"}]})

    query: Query
    products: Annotated[list[Pair], Field(min_length=1, max_length=MAX_PAIRS)]


class Relevance(Settings):
    """The relevance of a product to the query of the request."""

    product_id: str | None
    probability: float | None = Field(description="Null for a product_id that the catalogue does not have.")
    relevant: bool | None = Field(
        description="Whether the probability reaches the scorer's calibrated threshold. Null for an unknown product, "
        "and for a scorer without a threshold."
    )


class Relevances(Reply):
    """The relevance of each product, in the order of the request."""

    query: str
    products: list[Relevance]
    unknown: list[str] = Field(description="The product_ids that the catalogue does not have.")


class Trigger(Request):
    """A product that the user acted on, and how much it counts."""

    product_id: ProductId
    weight: Weight = 1.0


class RecommendRequest(Request):
    """The body of `POST /v1/recommend`."""

    model_config = _examples({"triggers": [{"product_id": "B07X1", "weight": 2.0}, {"product_id": "B08Y2"}], "k": 20})

    triggers: Annotated[list[Trigger], Field(min_length=1, max_length=MAX_TRIGGERS)]
    k: PositiveInt = Field(default=10, description="The number of items at most, up to the server's limit.")
    category: list[Name] | None = Field(
        default=None, description="Recommend only items whose category path begins with these levels; null for any."
    )
    exclude: Annotated[list[ProductId], Field(max_length=MAX_EXCLUDED)] = Field(
        default=[], description="Items not to recommend, such as those already bought. Triggers never are."
    )
    most_per_category: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="The most items of one category; null for no limit."
    )


class RecommendedItem(Settings):
    """An item, its score and its trigger; title, brand and category are null where the product table lacks it."""

    product_id: str
    score: float
    trigger: str
    title: str | None
    brand: str | None
    category: list[str] | None


class Recommendations(Reply):
    """Items for the triggers of a request, best first."""

    items: list[RecommendedItem]
    unknown: list[str] = Field(description="The triggers that the table does not have.")


class QueryRequest(Request):
    """The body of `POST /v1/query`: what a search page needs in one call."""

    model_config = _examples(
        {"query": "wireless earbuds", "k": 20},
        {"query": "lamp", "triggers": [{"product_id": "B07X1"}], "minimum_grade": 1},
    )

    query: Query
    k: PositiveInt = 10
    filters: Filters | None = None
    triggers: Annotated[list[Trigger], Field(max_length=MAX_TRIGGERS)] = Field(
        default=[], description="What the user acted on before, newest weighted most."
    )
    minimum_grade: Grade = Field(default=0, description="Cut hits of a lower grade.")
    explain: bool = False


class PageHit(Hit):
    """A product of a search page. Its `score` is the sum of the parts that the server has."""

    category_probability: float | None = Field(
        description="The probability of the product's category; null without a classifier."
    )
    trigger: str | None = Field(description="The trigger whose list has the product; null where none has it.")
    relevance: float | None = Field(
        description="The scorer's probability of relevance; null without a scorer, and below the best that it judges."
    )


class Page(Reply):
    """A search page: the query's categories, and its hits, best first."""

    query: str
    categories: list[Label]
    hits: list[PageHit]
    cut: int = Field(description="Candidates that were left out because their grade is too low.")
    unknown: list[str] = Field(description="The triggers that the table of items does not have.")


class SearchBatch(Request):
    """The body of `POST /v1/search/batch`."""

    requests: Annotated[list[SearchRequest], Field(min_length=1, max_length=MAX_BATCH)]


class ClassifyBatch(Request):
    """The body of `POST /v1/classify/batch`."""

    requests: Annotated[list[ClassifyRequest], Field(min_length=1, max_length=MAX_BATCH)]


class RelevanceBatch(Request):
    """The body of `POST /v1/relevance/batch`."""

    requests: Annotated[list[RelevanceRequest], Field(min_length=1, max_length=MAX_BATCH)]


class RecommendBatch(Request):
    """The body of `POST /v1/recommend/batch`."""

    requests: Annotated[list[RecommendRequest], Field(min_length=1, max_length=MAX_BATCH)]


class Answers(Settings):
    """The answer of `POST /v1/search/batch`, in the order of the requests."""

    answers: list[Answer]


class Classifications(Settings):
    """The answer of `POST /v1/classify/batch`, in the order of the requests."""

    answers: list[Classification]


class RelevanceAnswers(Settings):
    """The answer of `POST /v1/relevance/batch`, in the order of the requests."""

    answers: list[Relevances]


class RecommendationAnswers(Settings):
    """The answer of `POST /v1/recommend/batch`, in the order of the requests."""

    answers: list[Recommendations]


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
        return time


class EventBatch(Request):
    """The body of `POST /v1/events`."""

    model_config = _examples(
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


class Readiness(Settings):
    """The answer of `/readyz` when the models are loaded and searches work."""

    status: Literal["ready"] = "ready"
    versions: Versions


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
