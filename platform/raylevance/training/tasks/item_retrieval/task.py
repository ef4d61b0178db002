"""The item retrieval task: an item encoder that brings a trigger near the items that were chosen after it.

Source: GCL-MO (arXiv 2307.04322).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.graph.item_graph import ItemGraph
from raylevance.graph.item_objectives import OBJECTIVES, Objective
from raylevance.index.item_scores import POPULARITY, popularity_terms
from raylevance.models.item_encoder import ItemEncoder
from raylevance.training.settings import TrainSettings
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.item_retrieval.batches import Batches
from raylevance.training.tasks.item_retrieval.histories import Histories, write_histories
from raylevance.training.tasks.item_retrieval.item_nodes import ItemNodes
from raylevance.training.tasks.item_retrieval.replica import ItemRetrievalReplica

HISTORIES = "histories"


class ObjectiveWeights(Settings):
    """How much the loss of each objective counts; 0 leaves it out."""

    relevance: float = Field(1.0, ge=0)
    exposure: float = Field(1.0, ge=0)
    click: float = Field(1.0, ge=0)
    purchase: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _any(self) -> "ObjectiveWeights":
        if not any(self.of(name) for name in OBJECTIVES):
            raise ValueError("all objectives have weight 0; give one a weight above 0")
        return self

    def of(self, objective: Objective) -> float:
        """Return the weight of `objective`."""
        return float(getattr(self, objective))


class ItemRetrievalSettings(TrainSettings):
    """Settings of an item encoder's training. `batch` counts triggers."""

    weights: ObjectiveWeights = ObjectiveWeights()
    temperature: PositiveFloat = 0.1
    """tau of the loss."""
    loss: Literal["removed", "other-positives"] = "removed"
    """What the denominator of a positive holds besides its negatives: no other positive (the paper's modified loss), or
    all that are among the candidates, drawn or not (its variant AP)."""
    positives: PositiveInt = 2
    """Positives drawn for each trigger and objective, by the weight of their edge."""
    most_positives: PositiveInt | None = None
    """The most positives that a trigger has of an objective: its strongest edges; the other items are negatives. Null
    takes all that are above chance, which in a log of large baskets is a third of the catalogue."""
    random_negatives: NonNegativeInt = 1024
    """Items drawn uniformly from the catalogue that are candidates of every trigger of a step."""
    mixed_negatives: NonNegativeInt = 0
    """Negatives that are made for each trigger and objective: its nearest negatives in a step, each mixed with one of
    its positives (`losses.mixed_negatives`); no more than the step has candidates."""
    histories: NonNegativeInt = 0
    """Histories that each step also learns from: several triggers together are to find what a user chose, as when lists
    are merged (`losses.trigger_mixture`). Suits a log in which users choose many items. A worker holds up to 50 scores
    for each of its histories and each candidate of the step."""
    history_weight: PositiveFloat = 1.0
    """How much a history's loss counts beside that of an objective."""
    clicked_not_bought: float = Field(0.3, ge=0)
    """Weight of a clicked item among the negatives of purchase."""
    neighbours: PositiveInt = 10
    """Neighbours sampled for each item."""
    drop_nodes: float = Field(0.1, ge=0, lt=1)
    """Share of the nodes that a view of the graph lacks."""
    perturb_edges: float = Field(0.1, ge=0, lt=1)
    """Share of the edges that a view changes: one half are dropped, one half lead to a random item. All draws of one
    edge are changed alike."""
    self_weight: float = Field(0.1, ge=0)
    """Weight of the loss of finding a trigger's other view."""
    id_learning_rate: PositiveFloat | None = None
    """Highest learning rate of the vectors of ids; null for that of the rest."""

    @model_validator(mode="after")
    def _mixes_no_positives(self) -> "ItemRetrievalSettings":
        if self.loss == "other-positives" and self.mixed_negatives:
            raise ValueError("mixed_negatives would mix known positives with loss=other-positives; set it to 0")
        return self


@dataclass
class ItemRetrieval:
    """Train the item encoder at `model` on the item graph in the folder `graph`.

    - `texts`: the file with the vectors of the items' texts, float32 [items, text_size], or None.
    - `popularity`: how much the popularity of an item counts in the table that is made of the model, which the loss of
      histories reads (`ItemTableSettings.popularity`). An item that was new counts as an average one there.
    """

    model: Path
    graph: Path
    texts: Path | None
    settings: ItemRetrievalSettings
    popularity: float = POPULARITY

    def check(self) -> None:
        """Raise `RaylevanceError` if the model can't be read."""
        ItemEncoder.load(self.model)

    def describe(self) -> dict[str, Any]:
        """Return the model and the data by their paths, and the popularity where the loss reads it."""
        paths = {"model": str(self.model), "graph": str(self.graph), "texts": str(self.texts)}
        return {**paths, **({"popularity": self.popularity} if self.settings.histories else {})}

    def prepare(self, run_dir: Path) -> None:
        """Write the histories, if there are to be any.

        Raises `RaylevanceError` if no objective with a weight has an edge, or no user chose two items.
        """
        graph = ItemGraph.load(self.graph)
        if not Batches(graph, self.settings, 0).objectives:
            names = ", ".join(name for name, edges in graph.objectives.items() if len(edges.indices)) or "none"
            raise RaylevanceError(f"no objective with a weight has an edge; those with edges: {names}")
        if self.settings.histories:
            write_histories(self.graph, run_dir / HISTORIES)

    def open(self, model: Path | None, context: WorkerContext) -> ItemRetrievalReplica:
        """Return a replica of the task, as `Task.open` does."""
        graph = ItemGraph.load(self.graph)
        encoder = ItemEncoder.load(model or self.model)
        nodes = ItemNodes(graph, encoder.vocabulary, self.texts)
        batches = Batches(graph, self.settings, context.seed)
        histories = None
        if self.settings.histories:
            histories = Histories(context.run_dir / HISTORIES, len(graph), self.settings.histories, context.seed)
        # The logits are cosines over tau, so the term is over tau too.
        popularity = popularity_terms(graph.event_counts.sum(axis=1), 1.0, self.popularity)
        return ItemRetrievalReplica(encoder, nodes, batches, self.settings, context, histories, popularity)
