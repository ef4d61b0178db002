"""Messages of `POST /v1/recommend` and `/v1/recommend/batch`."""

from typing import Annotated

from pydantic import Field, PositiveInt

from raylevance.client.messages.fields import MAX_BATCH, Name, ProductId, Reply, Request, examples
from raylevance.config import Settings

MAX_TRIGGERS = 100
MAX_EXCLUDED = 1000
Weight = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class Trigger(Request):
    """A product that the user acted on, and how much it counts."""

    product_id: ProductId
    weight: Weight = 1.0


class RecommendRequest(Request):
    """The body of `POST /v1/recommend`."""

    model_config = examples({"triggers": [{"product_id": "B07X1", "weight": 2.0}, {"product_id": "B08Y2"}], "k": 20})

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


class RecommendBatch(Request):
    """The body of `POST /v1/recommend/batch`."""

    requests: Annotated[list[RecommendRequest], Field(min_length=1, max_length=MAX_BATCH)]


class RecommendationAnswers(Settings):
    """The answer of `POST /v1/recommend/batch`, in the order of the requests."""

    answers: list[Recommendations]
