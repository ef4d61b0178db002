"""The warm-up: an encoder is trained to find products by words of their titles, without any judgement.

Our choice: the graded losses alone overfit on few queries.
"""

import pyarrow.dataset
from pydantic import Field

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.graph.edges import EdgeWeights
from raylevance.inference.encoder import save_template
from raylevance.models.encoder import EncoderSettings
from raylevance.progress import status
from raylevance.training.tasks.contrastive.task import ContrastiveSettings
from workloads.steps.behaviour_graph import BehaviourSettings, graph_step, has_choices
from workloads.steps.contrastive_instances import write_clicked_pairs, write_pseudo_queries, write_synthetic_pairs
from workloads.steps.cut_texts import share_of_cut_texts
from workloads.steps.encoder_training import backbone_settings, besides_training, new_encoder, training_settings
from workloads.steps.retrieval_data import RetrievalData


class WarmupSettings(Settings):
    """In-batch InfoNCE on pseudo-queries cut from titles, and on queries of the log where there is one."""

    enabled: bool = True
    """Warm the backbone up; false starts the judged stages from the backbone itself, for comparison."""
    queries_per_product: int = Field(1, gt=0)
    """Pseudo-queries that are cut from the title of each product."""
    category_share: float = Field(0.2, ge=0, le=1)
    """The share of pseudo-queries that are the name of the product's category instead of words of its title."""
    behaviour_share: float = Field(0.2, ge=0, lt=1)
    """The largest share of pairs that are a query of the log with a product that was chosen for it. Queries that are
    validated or tested on are never among them."""
    synthetic: str | None = None
    """tables/NAME[@VERSION] of the recipe synthetic-queries: its queries with their relevant products are pairs of the
    warm-up too; null for none."""
    train: ContrastiveSettings = ContrastiveSettings(loss="infonce", batch=64, max_steps=100)


def warmup_step(
    data: RetrievalData, suffix: str, settings: WarmupSettings, encoder: EncoderSettings, *, read_log: bool
) -> Artifact:
    """Return `encoder/warmup<suffix>`: the backbone, trained on pseudo-queries and, with `read_log`, on the log.

    Where the warm-up is disabled it is the backbone itself.
    """
    if not settings.enabled:
        return untrained_step(data, f"encoder/warmup{suffix}", encoder)
    graph = clicked_graph(data, f"graph/warmup{suffix}") if read_log and settings.behaviour_share else None
    run, seed = data.run, data.trainer.seed
    synthetic = run.store.get(settings.synthetic) if settings.synthetic else None
    others = {name: value for name, value in besides_training(settings).items() if name != "synthetic"}
    described = training_settings(settings.train, data.text, **backbone_settings(encoder), **others)

    def build(draft: Draft) -> None:
        with run.work_folder() as work:
            tables, instances = run.store.path(data.tables.ref), work / "instances"
            write_pseudo_queries(
                tables / "products",
                instances,
                data.text,
                per_product=settings.queries_per_product,
                category_share=settings.category_share,
                seed=seed,
            )
            if graph:
                pseudo = pyarrow.dataset.dataset(instances, format="parquet").count_rows()
                count = round(pseudo * settings.behaviour_share / (1 - settings.behaviour_share))
                write_clicked_pairs(run.store.path(graph.ref), tables, instances, data.text, count)
            if synthetic:
                counts = write_synthetic_pairs(run.store.path(synthetic.ref), tables, instances, data.text)
                draft.metrics["synthetic"] = counts
                left_out = ", ".join(f"{count} {reason}" for reason, count in counts.items() if reason != "pairs")
                status(f"{synthetic.ref}: {counts['pairs']} pairs join the warm-up; left out: {left_out}")
            start = new_encoder(encoder, work / "backbone")
            draft.metrics["item_texts_cut"] = share_of_cut_texts(start, tables / "products", data.text)
            data.trainer.train_encoder(start, settings.train, data.text, draft, work)

    inputs = [data.tables, *([graph] if graph else []), *([synthetic] if synthetic else [])]
    return run.step(f"encoder/warmup{suffix}", build, settings=described, inputs=inputs, seed=seed)


def untrained_step(data: RetrievalData, name: str, encoder: EncoderSettings) -> Artifact:
    """Return the artifact `name`: the backbone with the template of the item texts, before any training."""

    def build(draft: Draft) -> None:
        new_encoder(encoder, draft.path)
        save_template(draft.path, data.text)

    settings = {**backbone_settings(encoder), "text": data.text}
    return data.run.step(name, build, settings=settings, inputs=[data.tables], seed=data.trainer.seed)


def clicked_graph(data: RetrievalData, name: str) -> Artifact | None:
    """Return the behaviour graph of the log, without the judged queries that are held out of training.

    Returns None if the log holds no click, cart or purchase for the other queries.
    """
    held_out = data.judged.query_ids_outside(data.human_train)
    if not has_choices(data.run.store.path(data.tables.ref), held_out):
        return None
    every_choice = BehaviourSettings(edges=EdgeWeights(minimum_support=1))
    return graph_step(data.run, data.tables, data.human_train, held_out, every_choice, data.trainer.seed, name)
