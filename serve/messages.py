"""The messages that go over HTTP: the search request, its answer, and the body of every failure."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, PositiveInt, StringConstraints

from raylevance.config import Settings
from raylevance.index.filters import Filters
from raylevance.index.products import Mode
from raylevance.inference.search import SearchVersions

Grade = Literal[0, 1, 2]
Query = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=512)]

REQUEST_EXAMPLES: list[JsonValue] = [
    {"query": "wireless earbuds"},
    {
        "query": "garden hose 50 ft",
        "k": 5,
        "mode": "dense",
        "filters": {"brand": ["Flexzilla"], "locale": "us"},
        "minimum_grade": 1,
    },
]


class SearchRequest(Settings):
    """The body of `POST /v1/search`."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": REQUEST_EXAMPLES})

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


class Versions(SearchVersions):
    """The artifacts behind an answer, each as `kind/name@version`, and the version of the code."""

    raylevance: str


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


class Answer(Settings):
    """The hits of a search, best first, and the versions that they were made with."""

    query: str
    mode: Mode
    took_ms: float
    hits: list[Hit]
    versions: Versions


class Readiness(Settings):
    """The answer of `/readyz` when the models are loaded and searches work."""

    status: Literal["ready"] = "ready"
    versions: Versions


class Health(Settings):
    """The answer of `/healthz`: the process is running."""

    status: Literal["ok"] = "ok"


class Fault(Settings):
    """A failure as a `code` for programs and a `message`, one line, for people."""

    code: str
    message: str


class Failure(Settings):
    """The body of every answer that is not 2xx."""

    error: Fault
