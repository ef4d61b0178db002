"""Weak supervision by a behaviour graph (Alimama, CIKM 2022): relevance learned from what people clicked.

    raylevance run weak-supervision [--config F] [--set moco.fgm=0]

Reads products, queries, judgements and, where there are any, events (otherwise clicks are simulated from training
judgements); publishes `graph/behaviour`, `pairs/weak`, `encoder/weak`, `scorer/relevance` and
`report/weak-supervision`. No behaviour and no judgement of a test query is learned from.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, NonNegativeInt, PositiveInt

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged import TEST, Judged
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.evaluation.pairs import evaluate_pairs
from raylevance.graph.metapaths import PpmiSettings
from raylevance.graph.pairs import PairSettings
from raylevance.inference.encoding import backbone_digest, backbone_path, find_encoder, pair_cosines, save_template
from raylevance.inference.product_queries import ProductQueries
from raylevance.inference.scorer import gather_evidence, save_scorer
from raylevance.models.encoder import EncoderSettings, read_settings
from raylevance.models.hybrid import Hybrid, Parts
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from raylevance.training import trainer
from raylevance.training.tasks.moco.task import MoCo, MoCoSettings
from raylevance.training.tasks.relevance.task import Relevance, RelevanceSettings
from raylevance.training.trainer import NOT_PART_OF_THE_RESULT
from workloads.run import Run
from workloads.steps.behaviour_graph import BehaviourSettings, graph_step
from workloads.steps.graph_texts import Nodes
from workloads.steps.relevance_pairs import IRRELEVANT, RELEVANT, BehaviourPairs, LabelledPairs, relevance_rows
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.training import kept_metric, new_encoder, train_in
from workloads.steps.weak_baselines import Baselines, BaselineSettings
from workloads.steps.weak_pairs import PAIRS, ROWS, WeakPairSettings, weak_pairs_step
from workloads.steps.weak_report import WeakOutcome, report_step


class ScorerSettings(Settings):
    """The relevance head, what it learns from, and what the published score is made of."""

    model: RelevanceModelSettings = RelevanceModelSettings()
    behaviour_weight: float = Field(0.3, ge=0)
    """Of a high-confidence behaviour pair, beside 1 of a judged one; 0 leaves them out."""
    neighbours: PositiveInt = 5
    """Queries of an item that stand for it in relation-based transfer."""
    parts: Parts = "hybrid"
    train: RelevanceSettings = RelevanceSettings(max_steps=100, evaluate_every=20, checkpoint_every=50, keep_best="auc")


class RecipeSettings(Settings):
    """Everything that can be set; the defaults run on a laptop."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    text: ProductText = ProductText(taxonomy_levels=0)
    behaviour: BehaviourSettings = BehaviourSettings(ppmi=PpmiSettings(minimum_support=1))
    """On a log of some hundred queries two nodes seldom share two neighbours."""
    pairs: WeakPairSettings = WeakPairSettings(
        pairs=PairSettings(positives=8, quantile=0.5, semi_hard=0, hard=0, easy=1)
    )
    encoder: EncoderSettings = EncoderSettings(backbone="minilm", max_query_tokens=16, max_item_tokens=40)
    moco: MoCoSettings = MoCoSettings(
        batch=32, epochs=3, queue=2048, max_steps=100, mixup=0, fgm=0, checkpoint_every=25
    )
    """Mix-up and adversarial noise are off, as hard negatives are: docs/decisions/0007-false-negatives.md."""
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    """Of the training queries, where the data have no validation split: they pick the best step and calibrate the
    scorer, and nothing is learned from them."""
    scorer: ScorerSettings = ScorerSettings()
    baselines: BaselineSettings = BaselineSettings()


def recipe(settings: RecipeSettings, run: Run) -> WeakOutcome:
    """The recipe, a line a step."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    graph, learned, validation = behaviour_graph(settings, run, tables, judged)
    pairs = weak_pairs_step(run, tables, graph, settings.text, settings.pairs, settings.seed)
    weak = train_weak(settings, run, tables, pairs)
    scorer = train_scorer(settings, run, tables, graph, pairs, weak, learned, validation)
    common = settings.encoder, settings.text, run, tables, graph, learned, validation, settings.seed
    baselines = Baselines(settings.baselines, *common).train()
    parts = judged.of(TEST), validation, settings.text, settings.seed
    report = report_step(run, tables, graph, weak, scorer, baselines, *parts)
    return WeakOutcome(run, report)


def behaviour_graph(
    settings: RecipeSettings, run: Run, tables: Artifact, judged: Judged, name: str = "graph/behaviour"
) -> tuple[Artifact, Judged, Judged]:
    """The graph without queries that are judged for another purpose than training, the queries that are learned from,
    and those of validation."""
    learned, validation = judged.train_and_validation(settings.validation_fraction, settings.seed)
    if not {IRRELEVANT, RELEVANT} <= set(validation.judgements["grade"].unique().to_pylist()):
        raise RaylevanceError(
            "the validation queries lack judgements of grade 2, or of grade 0: raise validation_fraction, or judge more"
        )
    graph = graph_step(run, tables, learned, judged.beside(learned), settings.behaviour, settings.seed, name)
    return graph, learned, validation


def check_settings(settings: RecipeSettings) -> None:
    """Refuse, before any work, a backbone that can't be read and workers that the cluster has no room for."""
    read_settings(backbone_path(settings.encoder.backbone))
    trainer.check_settings(settings.moco, evaluates=False, name="moco.")
    trainer.check_settings(settings.scorer.train, evaluates=True, name="scorer.train.")
    trainer.check_settings(settings.baselines.clicks, evaluates=False, name="baselines.clicks.")
    trainer.check_settings(settings.baselines.pairs, evaluates=True, name="baselines.pairs.")


METRIC = "auc"
"""Of grade 2 against 0 on the validation queries: what a search of settings goes by."""


def search_space(settings: RecipeSettings) -> dict[str, Any]:
    """What `raylevance tune` varies: Ray Tune's domains by setting."""
    from ray import tune

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


def trial(settings: RecipeSettings, run: Run) -> Iterator[float]:
    """`METRIC` of the weak encoder's cosine, then of the scorer's head. Its artifacts have names of their own."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    graph, learned, validation = behaviour_graph(settings, run, tables, judged, "graph/behaviour-trial")
    pairs = weak_pairs_step(run, tables, graph, settings.text, settings.pairs, settings.seed, "pairs/weak-trial")
    weak = train_weak(settings, run, tables, pairs, "encoder/weak-trial")
    yield validation_auc(run, weak, validation, settings.text)
    scorer = train_scorer(settings, run, tables, graph, pairs, weak, learned, validation, name="scorer/relevance-trial")
    yield kept_metric(scorer, METRIC)


def validation_auc(run: Run, encoder: Artifact, validation: Judged, text: ProductText) -> float:
    """AUC of the encoder's cosine on the judged pairs of the validation queries."""
    pairs = LabelledPairs.of(validation, text)
    path = find_encoder(encoder.ref, run.store).path
    return evaluate_pairs(pair_cosines(path, pairs.queries, pairs.texts), pairs.labels)["auc"]


def train_weak(
    settings: RecipeSettings, run: Run, tables: Artifact, pairs: Artifact, name: str = "encoder/weak"
) -> Artifact:
    """`encoder/weak`: the backbone, trained by momentum contrast on the graph's pairs."""
    made_from = {
        "encoder": settings.encoder.model_dump(),
        "backbone": backbone_digest(settings.encoder.backbone),
        "moco": settings.moco.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT),
        "text": settings.text.model_dump(mode="json"),
    }

    def build(draft: Draft) -> None:
        with run.work_folder(name, made_from, pairs.ref, settings.seed) as work:
            backbone = new_encoder(settings.encoder, work / "backbone")
            task = MoCo(backbone, run.store.path(pairs.ref) / ROWS, settings.moco)
            shutil.copytree(train_in(work, task, draft, settings.seed), draft.path, dirs_exist_ok=True)
            save_template(draft.path, settings.text)
            draft.metrics["source"] = pairs.metrics["source"]

    return run.step(name, build, settings=made_from, inputs=[tables, pairs], seed=settings.seed)


def train_scorer(
    settings: RecipeSettings,
    run: Run,
    tables: Artifact,
    graph: Artifact,
    pairs: Artifact,
    weak: Artifact,
    learned: Judged,
    validation: Judged,
    name: str = "scorer/relevance",
) -> Artifact:
    """`scorer/relevance`: a head on the weak encoder, the items' neighbour queries, and the fit of both on validation.

    The head learns from the judgements of `learned` and from high-confidence pairs of the graph.
    """
    chosen = settings.scorer
    made_from = chosen.model_dump(mode="json", exclude={"train"}) | {
        "train": chosen.train.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT),
        "text": settings.text.model_dump(mode="json"),
        "validation_fraction": settings.validation_fraction,
    }

    def build(draft: Draft) -> None:
        encoder = run.store.path(weak.ref)
        nodes = Nodes.read(run.store.path(tables.ref), run.store.path(graph.ref), settings.text)
        held_out = LabelledPairs.of(validation, settings.text)
        behaviour = BehaviourPairs(nodes, pq.read_table(run.store.path(pairs.ref) / PAIRS), chosen.behaviour_weight)
        with run.work_folder(name, made_from, weak.ref, settings.seed) as work:
            RelevanceModel.from_encoder(encoder, chosen.model, settings.seed).save(work / "model")
            rows = relevance_rows(LabelledPairs.of(learned, settings.text), behaviour)
            pq.write_table(rows, work / "pairs.parquet")
            task = Relevance(work / "model", work / "pairs.parquet", chosen.train)
            trained = train_in(work, task, draft, settings.seed, held_out.auc_of)
            model = RelevanceModel.load(trained)
            products = ProductQueries.of(neighbour_queries(nodes, chosen.neighbours), trained / "encoder")
            evidence = gather_evidence(model, products, held_out.queries, held_out.texts, held_out.product_ids)
            hybrid = Hybrid.fit(evidence, held_out.labels, chosen.parts)
            save_scorer(draft.path, trained, products, hybrid, settings.text)
            draft.metrics["hybrid"] = hybrid.model_dump()

    inputs = [tables, graph, pairs, weak]
    return run.step(name, build, settings=made_from, inputs=inputs, seed=settings.seed)


def neighbour_queries(nodes: Nodes, most: int) -> pa.Table:
    """The rows of `ProductQueries.of`: each item with its best queries, weighed by the softmax of their PPMI."""
    queries, weights = nodes.item_clusters(most)
    return pa.table(
        {"product_id": nodes.graph.items, "product_text": nodes.items, "queries": queries, "weights": weights}
    )
