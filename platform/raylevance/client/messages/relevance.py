"""Messages of `POST /v1/relevance` and `/v1/relevance/batch`."""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from raylevance.client.messages.fields import MAX_BATCH, ProductId, Query, Reply, Request, examples
from raylevance.config import Settings

MAX_PAIRS = 100
ItemText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


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

    model_config = examples({"query": "wireless earbuds", "products": [{"text": "Acme bluetooth earbuds, black"}]})

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


class RelevanceBatch(Request):
    """The body of `POST /v1/relevance/batch`."""

    requests: Annotated[list[RelevanceRequest], Field(min_length=1, max_length=MAX_BATCH)]


class RelevanceAnswers(Settings):
    """The answer of `POST /v1/relevance/batch`, in the order of the requests."""

    answers: list[Relevances]
