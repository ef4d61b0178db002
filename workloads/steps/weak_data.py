"""The tables, the behaviour graph and the judged queries that every step of weak supervision reads."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText
from raylevance.graph.building import COUNTS_FOLDER
from raylevance.graph.metapaths import PpmiSettings
from raylevance.models.encoder import EncoderSettings
from workloads.run import Run
from workloads.steps.encoder_training import Trainer
from workloads.steps.graph_texts import GraphTexts


@dataclass(frozen=True)
class WeakData:
    """The data that the encoder, the scorer and their baselines share, so that only their methods differ."""

    run: Run
    tables: Artifact
    graph: Artifact
    train: JudgedTables
    """The judged queries that are learned from."""
    validation: JudgedTables
    """The judged queries that pick the best step and calibrate the scorer."""
    encoder: EncoderSettings
    text: ProductText
    trainer: Trainer

    def graph_texts(self) -> GraphTexts:
        """Read the behaviour graph with the texts of its nodes."""
        store, ppmi = self.run.store, PpmiSettings.model_validate(self.graph.settings["ppmi"])
        return GraphTexts.read(store.path(self.tables.ref), store.path(self.graph.ref), self.text, ppmi)

    def action_counts(self) -> pa.Table:
        """Read how often each action was seen for each query and item of the graph."""
        return pq.read_table(self.run.store.path(self.graph.ref) / COUNTS_FOLDER)
