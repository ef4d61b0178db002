"""Messages of `POST /v1/classify` and `/v1/classify/batch`."""

from typing import Annotated

from pydantic import Field

from raylevance.client.messages.fields import MAX_BATCH, Name, Query, Reply, Request, examples
from raylevance.config import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


class ClassifyRequest(Request):
    """The body of `POST /v1/classify`."""

    model_config = examples({"query": "garden hose 50 ft"}, {"query": "red lamp", "task": "category", "k": 1})

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


class ClassifyBatch(Request):
    """The body of `POST /v1/classify/batch`."""

    requests: Annotated[list[ClassifyRequest], Field(min_length=1, max_length=MAX_BATCH)]


class Classifications(Settings):
    """The answer of `POST /v1/classify/batch`, in the order of the requests."""

    answers: list[Classification]
