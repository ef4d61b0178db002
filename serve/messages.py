"""What goes over HTTP: the search request, its answer, and the one shape of every failure."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, PositiveInt, StringConstraints

from raylevance.config import Settings
from raylevance.index.filters import Filters
from raylevance.index.products import Mode

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
    k: PositiveInt = Field(default=10, description="How many hits at most: 1 to the server's limit, 100 unless set.")
    mode: Mode = Field(default="hybrid", description="Rank by the encoder, by BM25, or by both.")
    filters: Filters = Field(default=Filters(), description="Only products with one of these values.")
    minimum_grade: Grade = Field(default=0, description="Only products that the encoder puts in this grade or above.")


class Versions(Settings):
    """The artifacts behind an answer, each `kind/name@version`, and the version of the code."""

    index: str
    encoder: str
    tables: str
    raylevance: str


class Hit(Settings):
    """One product. `score` is what the mode ranks by; `grade`: 2 relevant, 1 moderately, 0 not, by `dense_score`."""

    product_id: str
    title: str
    brand: str | None
    category: list[str] | None = Field(description="The path from the root.")
    score: float
    grade: Grade | None = Field(description="Null where the index was built without judgements.")
    dense_score: float = Field(description="Cosine of query and product.")
    lexical_score: float | None = Field(description="BM25; null where the product was not among its hits.")


class Answer(Settings):
    """The hits of a search, best first, and the versions that made them."""

    query: str
    mode: Mode
    took_ms: float
    hits: list[Hit]
    versions: Versions


class Readiness(Settings):
    """The models are loaded and answer."""

    status: Literal["ready"] = "ready"
    versions: Versions


class Health(Settings):
    """The process is up."""

    status: Literal["ok"] = "ok"


class Fault(Settings):
    """`code` is for programs, `message` is one line for people."""

    code: str
    message: str


class Failure(Settings):
    """The body of every answer that is not 2xx."""

    error: Fault
