"""Weak supervision by a behaviour graph (Alimama, CIKM 2022): relevance learned from what people clicked.

    raylevance run weak-supervision [--config F] [--set moco.fgm=0]

Reads products, queries, judgements and events; without events, clicks are simulated from training judgements. Publishes
`graph/behaviour`, `pairs/weak`, `encoder/weak`, `scorer/relevance` and `report/weak-supervision`. Nothing is learned
from the behaviour or the judgements of a test query.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field, NonNegativeInt, PositiveInt

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.config import Settings
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError, UsageError
from raylevance.evaluation.pair_metrics import best_threshold, evaluate_pairs
from raylevance.graph.metapaths import PpmiSettings
from raylevance.graph.pairs import PairSettings
from raylevance.inference.encoder import backbone_path, save_template
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import pair_cosines
from raylevance.inference.product_queries import ProductQueries
from raylevance.inference.scorer import gather_evidence, save_scorer
from raylevance.models.encoder import EncoderSettings, read_encoder_settings
from raylevance.models.hybrid import Hybrid, HybridParts
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from raylevance.training import trainer
from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.moco.task import MoCo, MoCoSettings
from raylevance.training.tasks.relevance.task import Relevance, RelevanceSettings
from workloads.run import Run
from workloads.steps.behaviour_graph import BehaviourSettings, graph_step
from workloads.steps.cut_texts import share_of_cut_texts
from workloads.steps.encoder_training import (
    Trainer,
    backbone_settings,
    besides_training,
    kept_metric,
    new_encoder,
    training_settings,
)
from workloads.steps.relevance_pairs import IRRELEVANT, RELEVANT, BehaviourPairs, LabelledPairs, relevance_rows
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.weak_baselines import Baselines, BaselineSettings
from workloads.steps.weak_data import WeakData
from workloads.steps.weak_pairs import PAIRS, ROWS, WeakPairSettings, weak_pairs_step
from workloads.steps.weak_report import WeakOutcome, report_step

METRIC = "auc"
"""The AUC of grade 2 against grade 0 on the validation queries, by which a search of settings compares trials."""


class ScorerSettings(Settings):
    """How the relevance head is trained, and how the published score is composed."""

    model: RelevanceModelSettings = RelevanceModelSettings()
    behaviour_weight: float = Field(0.3, ge=0)
    """The weight of a high-confidence behaviour pair, where a judged pair has weight 1; 0 leaves these pairs out."""
    neighbours: PositiveInt = 5
    """The number of queries that represent an item in relation-based transfer."""
    parts: HybridParts = "hybrid"
    train: RelevanceSettings = RelevanceSettings(max_steps=100, evaluate_every=20, keep_best="auc")


class WeakSupervisionSettings(Settings):
    """All settings of the recipe. The defaults run on a laptop."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    text: ProductText = ProductText(taxonomy_levels=0)
    behaviour: BehaviourSettings = BehaviourSettings(ppmi=PpmiSettings(minimum_support=1))
    """The minimum support is 1 because two nodes seldom share two neighbours on a log of some hundred queries."""
    pairs: WeakPairSettings = WeakPairSettings(pairs=PairSettings(positives=8, quantile=0.5, hard=0, easy=1))
    encoder: EncoderSettings = EncoderSettings(backbone="minilm", max_query_tokens=16, max_item_tokens=40)
    moco: MoCoSettings = MoCoSettings(batch=32, epochs=3, queue=2048, max_steps=100, mixup=0, fgm=0)
    """Mix-up and adversarial noise are off, as hard negatives are: docs/decisions/0007-false-negatives.md."""
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    """The share of the training queries that picks the best step and calibrates the scorer, where the data has no
    validation split. Nothing is learned from these queries."""
    scorer: ScorerSettings = ScorerSettings()
    baselines: BaselineSettings = BaselineSettings()
    machine: MachineSettings = MachineSettings()


def recipe(settings: WeakSupervisionSettings, run: Run) -> WeakOutcome:
    """Run the recipe: one line for each step, and a step whose artifact exists is not made again."""
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref))
    data = build_behaviour_graph(settings, run, tables, judged)
    pairs = sample_pairs(settings, data)
    weak = train_weak(settings, data, pairs)
    scorer = train_scorer(settings, data, pairs, weak)
    baselines = Baselines(settings.baselines, data).train()
    return WeakOutcome(run, report_step(data, judged.split(TEST), weak, scorer, baselines))


def build_behaviour_graph(
    settings: WeakSupervisionSettings, run: Run, tables: Artifact, judged: JudgedTables, suffix: str = ""
) -> WeakData:
    """Split the judged queries and build `graph/behaviour` without the queries that are not learned from.

    Raises `RaylevanceError` when the validation queries lack judgements of grade 2 or of grade 0.
    """
    train, validation = judged.train_and_validation(settings.validation_fraction, settings.seed)
    if not {IRRELEVANT, RELEVANT} <= set(validation.judgements["grade"].unique().to_pylist()):
        raise RaylevanceError(
            "the validation queries lack judgements of grade 2, or of grade 0: raise validation_fraction, or judge more"
        )
    held_out, name = judged.query_ids_outside(train), f"graph/behaviour{suffix}"
    graph = graph_step(run, tables, train, held_out, settings.behaviour, settings.seed, name)
    return WeakData(
        run=run,
        tables=tables,
        graph=graph,
        train=train,
        validation=validation,
        encoder=settings.encoder,
        text=settings.text,
        trainer=Trainer(settings.machine, settings.seed),
    )


def sample_pairs(settings: WeakSupervisionSettings, data: WeakData, suffix: str = "") -> Artifact:
    """Return `pairs/weak`: pairs of the behaviour graph that belong together, with negatives."""
    return weak_pairs_step(data, settings.pairs, f"pairs/weak{suffix}")


def train_weak(settings: WeakSupervisionSettings, data: WeakData, pairs: Artifact, suffix: str = "") -> Artifact:
    """Return `encoder/weak`: the backbone, trained by momentum contrast on the pairs of the graph."""
    described = training_settings(settings.moco, data.text, **backbone_settings(data.encoder))

    def build(draft: Draft) -> None:
        with data.run.work_folder() as work:
            backbone = new_encoder(data.encoder, work / "backbone")
            products = data.run.store.path(data.tables.ref) / "products"
            draft.metrics["item_texts_cut"] = share_of_cut_texts(backbone, products, data.text)
            task = MoCo(backbone, data.run.store.path(pairs.ref) / ROWS, settings.moco)
            shutil.copytree(data.trainer.train(task, draft, work), draft.path, dirs_exist_ok=True)
            save_template(draft.path, data.text)
            draft.metrics["source"] = pairs.metrics["source"]

    inputs, seed = [data.tables, pairs], data.trainer.seed
    return data.run.step(f"encoder/weak{suffix}", build, settings=described, inputs=inputs, seed=seed)


def train_scorer(
    settings: WeakSupervisionSettings, data: WeakData, pairs: Artifact, weak: Artifact, suffix: str = ""
) -> Artifact:
    """Return `scorer/relevance`: a head on the weak encoder and the items' neighbour queries, calibrated together.

    The head learns from judgements of the training queries and from high-confidence pairs of the graph. Both parts are
    combined by a fit to the validation queries.
    """
    chosen, run, seed = settings.scorer, data.run, data.trainer.seed
    described = training_settings(
        chosen.train,
        data.text,
        **besides_training(chosen),
        validation_fraction=settings.validation_fraction,
        # Not a setting: scorers from before they kept a threshold are made anew.
        threshold="best F1 on validation",
    )

    def build(draft: Draft) -> None:
        encoder, graph_texts = run.store.path(weak.ref), data.graph_texts()
        held_out = LabelledPairs.of(data.validation, data.text)
        graph_pairs = pq.read_table(run.store.path(pairs.ref) / PAIRS)
        behaviour = BehaviourPairs(graph_texts, graph_pairs, chosen.behaviour_weight)
        with run.work_folder() as work:
            RelevanceModel.from_encoder(encoder, chosen.model, seed).save(work / "model")
            rows = relevance_rows(LabelledPairs.of(data.train, data.text), behaviour)
            pq.write_table(rows, work / "pairs.parquet")
            task = Relevance(work / "model", work / "pairs.parquet", chosen.train)
            trained = data.trainer.train(task, draft, work, held_out.auc_of)
            model = RelevanceModel.load(trained)
            products = ProductQueries.of(graph_texts.neighbour_queries(chosen.neighbours), trained / "encoder")
            evidence = gather_evidence(model, products, held_out.queries, held_out.texts, held_out.product_ids)
            hybrid = Hybrid.fit(evidence, held_out.labels, chosen.parts)
            threshold = best_threshold(hybrid(evidence), held_out.labels)
            save_scorer(draft.path, trained, products, hybrid, data.text, threshold)
            draft.metrics |= {"hybrid": hybrid.model_dump(), "threshold": threshold}

    inputs = [data.tables, data.graph, pairs, weak]
    return run.step(f"scorer/relevance{suffix}", build, settings=described, inputs=inputs, seed=seed)


def check_settings(settings: WeakSupervisionSettings, store: Store) -> None:
    """Refuse, before any work, what can't be read or measured, and workers that the cluster has no room for.

    `store` is not read; `raylevance tune` passes it to the check of every recipe.
    """
    read_encoder_settings(backbone_path(settings.encoder.backbone))
    machine = settings.machine
    trainer.check_settings(settings.moco, machine, evaluates=False, name="moco.")
    trainer.check_settings(settings.scorer.train, machine, evaluates=True, name="scorer.train.")
    trainer.check_settings(settings.baselines.clicks, machine, evaluates=False, name="baselines.clicks.")
    for name, train in {"scorer.train": settings.scorer.train, "baselines.pairs": settings.baselines.pairs}.items():
        if train.keep_best not in (None, METRIC):
            raise UsageError(f"{name}.keep_best={train.keep_best}: the recipe measures {METRIC}")
    trainer.check_settings(settings.baselines.pairs, machine, evaluates=True, name="baselines.pairs.")


def search_space(settings: WeakSupervisionSettings) -> dict[str, Any]:
    """Return what `raylevance tune` varies: Ray Tune's domains by setting.

    Raises `UsageError` for a scorer that is never evaluated, because trials are compared by `METRIC`.
    """
    from ray import tune

    if settings.scorer.train.evaluate_every is None:
        raise UsageError(f"scorer.train.evaluate_every=null: a search compares trials by {METRIC}; set it")

    return {
        "pairs.walks.p": tune.loguniform(0.25, 4),
        "pairs.walks.q": tune.loguniform(0.25, 4),
        "pairs.mix.query_item": tune.uniform(0.2, 1.0),
        "moco.temperature": tune.loguniform(0.03, 0.2),
        "moco.queue": tune.choice([512, 2048, 8192]),
        "moco.cluster_weight": tune.uniform(0.0, 1.0),
        "moco.mixup": tune.choice([0.0, 0.2]),
        "moco.fgm": tune.choice([0.0, 1.0]),
        "moco.learning_rate": tune.loguniform(5e-6, 1e-4),
    }


def trial(settings: WeakSupervisionSettings, run: Run) -> Iterator[float]:
    """Yield `METRIC` of the weak encoder's cosine, then of the scorer's head, from artifacts of a trial's own names."""
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref))
    data = build_behaviour_graph(settings, run, tables, judged, "-trial")
    pairs = sample_pairs(settings, data, "-trial")
    weak = train_weak(settings, data, pairs, "-trial")
    yield validation_auc(data, weak)
    yield kept_metric(train_scorer(settings, data, pairs, weak, "-trial"), METRIC)


def validation_auc(data: WeakData, encoder: Artifact) -> float:
    """Return the AUC of the encoder's cosine on the judged pairs of the validation queries."""
    pairs = LabelledPairs.of(data.validation, data.text)
    path = load_encoder(data.run.store, encoder.ref).path
    return evaluate_pairs(pair_cosines(path, pairs.queries, pairs.texts), pairs.labels)["auc"]
