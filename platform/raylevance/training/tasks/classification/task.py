"""The classification task: a query classifier learns the labels of queries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import Field, PositiveInt

from raylevance.errors import UsageError, nearest
from raylevance.models.query_classifier import QueryClassifier, load_classifier_tokenizer
from raylevance.models.tokenizer import SideTokenizer
from raylevance.training.settings import TrainSettings
from raylevance.training.task import TOKENS, TextTask, WorkerContext
from raylevance.training.tasks.classification.replica import ClassificationReplica
from raylevance.training.tasks.classification.tokenised_queries import SCHEMA, TokenisedQueries
from raylevance.training.token_file import RowKind

COLUMNS = ("query", "labels", "targets", "weight")
KNOWLEDGE = "knowledge"


def _find_fault(
    query: str | None, labels: Sequence[int] | None, targets: Sequence[float] | None, weight: float | None
) -> str | None:
    if query is None or labels is None or targets is None or weight is None:
        return f"{', '.join(COLUMNS)} are required, none of them null"
    if not labels or len(labels) != len(targets):
        return f"has {len(labels)} labels and {len(targets)} targets; it needs one of each, or more"
    if any(target is None or not 0 < target <= 1 for target in targets):
        return f"targets {list(targets)!r} are not above 0 and at most 1"
    return None if 0 < weight < math.inf else f"weight {weight!r} is not a number above 0"


def _tokenise(rows: pa.Table, tokenizer: SideTokenizer) -> pa.Table:
    names = rows.column_names
    lists = rows[KNOWLEDGE].to_pylist() if KNOWLEDGE in names else [None] * rows.num_rows
    knowledge = [own or [] for own in lists]
    texts = [text for own in knowledge for text in own]
    flat = iter(tokenizer(texts, "item") if texts else [])
    columns = {
        "query": tokenizer(rows["query"].to_pylist(), "query"),
        "labels": rows["labels"].cast(pa.list_(pa.int32())),
        "targets": rows["targets"].cast(pa.list_(pa.float32())),
        "weight": rows["weight"].cast(pa.float32()),
        "knowledge": [[next(flat) for _ in own] for own in knowledge],
    }
    return pa.table(columns, schema=SCHEMA)


LABELLED_QUERIES = RowKind(
    name="labelled queries",
    columns=COLUMNS,
    schema=SCHEMA,
    find_fault=_find_fault,
    load_tokenizer=load_classifier_tokenizer,
    tokenise=_tokenise,
    optional_columns=(KNOWLEDGE,),
)
"""Rows of query (string), labels (rows of the label space, all of one task), targets (above 0, at most 1, one a label),
weight (above 0) and, optional, knowledge (the texts that are known about the query)."""


class ClassificationSettings(TrainSettings):
    """Settings of a query classifier's training. `batch` counts queries."""

    head_learning_rate: float = Field(3e-3, gt=0)
    """Highest learning rate of the graph convolution, the bias, the scale and learned label vectors. The encoder's is
    `learning_rate`."""
    refresh_every: PositiveInt = 16
    """Steps between encodings of the label texts. The gradient goes through the texts in the steps that encode them;
    the other steps use the vectors of the latest encoding."""
    tau: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """The cosine from which a label of a task becomes a semi-supervised label of a query, by task. A task without one
    gets none."""
    stop_gradient: bool = True
    """Stop the gradient through semi-supervised labels. false lets queries and labels pull each other together until
    they are one vector, which a test shows."""


@dataclass
class Classification(TextTask[ClassificationSettings]):
    """Train the query classifier at `model` on the queries in `data`, whose columns `LABELLED_QUERIES` states."""

    row_kind: ClassVar[RowKind] = LABELLED_QUERIES

    def open(self, model: Path | None, context: WorkerContext) -> ClassificationReplica:
        """Return a replica of the task, as `Task.open` does.

        Raises `UsageError` if `tau` names a task that the classifier does not have.
        """
        classifier = QueryClassifier.load(model or self.model)
        tasks = classifier.space.tasks
        for unknown in self.settings.tau.keys() - set(tasks):
            raise UsageError(f"tau: the classifier has no task {unknown!r}; {nearest(unknown, tasks)}")
        queries = TokenisedQueries(context.run_dir / TOKENS, classifier.space)
        return ClassificationReplica(classifier, queries, self.settings, context)
