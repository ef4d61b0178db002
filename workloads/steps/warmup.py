"""The warm-up, which needs no judgement (our choice: the graded losses alone overfit on few queries)."""

import pyarrow as pa
import pyarrow.dataset
from pydantic import Field

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged import Judged
from raylevance.graph.edges import EdgeWeights
from raylevance.inference.encoding import backbone_digest
from raylevance.models.encoder import EncoderSettings
from raylevance.training.tasks.contrastive.task import ContrastiveSettings
from workloads.run import Run
from workloads.steps.behaviour_graph import BehaviourSettings, graph_step, has_choices
from workloads.steps.instances import write_clicked_pairs, write_pseudo_queries
from workloads.steps.training import Training, new_encoder


class WarmupSettings(Settings):
    """In-batch InfoNCE on pseudo-queries cut from titles.

    `category_share` of them are the name of the product's category instead. Where the tables have events, at most
    `behaviour_share` of all pairs are a query of the log with a product that was chosen for it; none of a query that
    is validated or tested on.
    """

    queries_per_product: int = Field(1, gt=0)
    category_share: float = Field(0.2, ge=0, le=1)
    behaviour_share: float = Field(0.2, ge=0, lt=1)
    train: ContrastiveSettings = ContrastiveSettings(loss="infonce", batch=64, max_steps=100, checkpoint_every=25)


def warmup_step(
    run: Run,
    tables: Artifact,
    settings: WarmupSettings,
    encoder: EncoderSettings,
    graph: Artifact | None,
    training: Training,
) -> Artifact:
    """The backbone of `encoder`, trained to find a product by a few words of its title, or by a query of `graph`."""
    inputs = [tables, *([graph] if graph else [])]
    made_from = training.described(
        {
            "encoder": encoder.model_dump(),
            "backbone": backbone_digest(encoder.backbone),
            **settings.model_dump(mode="json", exclude={"train"}),
        }
    )

    def build(draft: Draft) -> None:
        with run.work_folder(training.name, made_from, [parent.ref for parent in inputs], training.seed) as work:
            folder, instances = run.store.path(tables.ref), work / "instances"
            queries = settings.queries_per_product, training.seed, settings.category_share
            write_pseudo_queries(folder / "products", instances, training.text, *queries)
            if graph:
                pseudo = pyarrow.dataset.dataset(instances, format="parquet").count_rows()
                most = round(pseudo * settings.behaviour_share / (1 - settings.behaviour_share))
                write_clicked_pairs(run.store.path(graph.ref), folder, instances, training.text, most)
            training.train(draft, new_encoder(encoder, work / "backbone"), work)

    return run.step(training.name, build, settings=made_from, inputs=inputs, seed=training.seed)


def clicked_graph(
    run: Run, tables: Artifact, learned: Judged, held_out: pa.Array, seed: int, name: str
) -> Artifact | None:
    """The behaviour graph of all queries but those `held_out` (ids); None where no product was chosen for another."""
    if not has_choices(run.store.path(tables.ref), held_out):
        return None
    every_choice = BehaviourSettings(edges=EdgeWeights(minimum_support=1))
    return graph_step(run, tables, learned, held_out, every_choice, seed, name)
