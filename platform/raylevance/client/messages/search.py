"""Messages of `POST /v1/search` and `/v1/search/batch`."""

from typing import Annotated

from pydantic import Field, PositiveInt

from raylevance.client.messages.fields import MAX_BATCH, Grade, Query, Reply, Request, examples
from raylevance.config import Settings
from raylevance.index.filters import Filters
from raylevance.index.ranking import Mode


class SearchRequest(Request):
    """The body of `POST /v1/search`."""

    model_config = examples(
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
    excluded: list[str] = Field(
        default_factory=list,
        description="The words that the query excludes and its title has. Mode `hybrid` ranks it lower by the "
        "index's `excluded_weight`.",
    )
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


class SearchBatch(Request):
    """The body of `POST /v1/search/batch`."""

    requests: Annotated[list[SearchRequest], Field(min_length=1, max_length=MAX_BATCH)]


class Answers(Settings):
    """The answer of `POST /v1/search/batch`, in the order of the requests."""

    answers: list[Answer]
