"""Messages of `POST /v1/query`, a search page in one call."""

from typing import Annotated

from pydantic import Field, PositiveInt

from raylevance.client.messages.classify import Label
from raylevance.client.messages.fields import Grade, Query, Reply, Request, examples
from raylevance.client.messages.recommend import MAX_TRIGGERS, Trigger
from raylevance.client.messages.search import Hit
from raylevance.index.filters import Filters


class QueryRequest(Request):
    """The body of `POST /v1/query`: what a search page needs in one call."""

    model_config = examples(
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
    unknown: list[str] = Field(
        description="The triggers that the table of items does not have; all of them without such a table."
    )
