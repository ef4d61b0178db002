"""Mine and Refine (arXiv 2602.17654): a two-tower retriever whose scores separate three grades of relevance.

    raylevance run mine-and-refine [--config F] [--set stage1.train.epochs=2]

Reads products, judgements and, where there is one, a log; publishes `tables/<data set>`, `report/baselines`,
`graph/warmup` (of a log), `encoder/warmup`, `encoder/stage1`, `pairs/mined`, `encoder/stage2`, `index/stage2` and
`report/mine-and-refine`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, NonNegativeInt, PositiveInt

from raylevance.artifacts import Artifact, Draft, Store, fingerprint
from raylevance.config import Settings
from raylevance.data.instances import InstanceSettings
from raylevance.data.judged import TRAIN, Judged
from raylevance.data.spelling import SpellingSettings
from raylevance.data.text import ProductText, normalised_query
from raylevance.errors import UsageError
from raylevance.index.products import ProductIndexSettings
from raylevance.index.vectors import check_gpu
from raylevance.inference.grade_bands import save_bands
from raylevance.inference.judge import judge_version
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.encoder import check_settings as check_encoder
from raylevance.training import trainer
from raylevance.training.tasks.contrastive.ranking import RankingEvaluation
from raylevance.training.tasks.contrastive.task import ContrastiveSettings
from workloads.run import Run
from workloads.steps.indexing import index_step
from workloads.steps.instances import write_judged_instances
from workloads.steps.mining import MineSettings, curriculum, mining_step, read_mined
from workloads.steps.retrieval_report import Outcome, baselines_step, report_step
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.training import Training, kept_metric, located
from workloads.steps.warmup import WarmupSettings, clicked_graph, warmup_step


class Stage1Settings(Settings):
    """Label-weighted SupCon on judged instances (section 4.2); the best step on held-out training queries is kept."""

    enabled: bool = True
    """False: stage 2 starts from the warm-up, for comparison."""
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    instances: InstanceSettings = InstanceSettings()
    train: ContrastiveSettings = ContrastiveSettings(
        loss="supcon", batch=8, max_steps=12, evaluate_every=4, checkpoint_every=6, keep_best="ndcg@10"
    )


class Stage2Settings(Settings):
    """Multi-class circle loss on stage 1's data and the mined hard pairs, `rounds` times mined and trained.

    `two_towers`: a tower a side from here on, both from stage 1's (the paper's asymmetric circle), for comparison.
    """

    rounds: PositiveInt = 1
    two_towers: bool = False
    train: ContrastiveSettings = ContrastiveSettings(
        loss="circle", batch=8, max_steps=12, evaluate_every=6, checkpoint_every=6
    )


class SyntheticSource(Settings):
    """Synthetic queries among the training ones: of `tables` (tables/NAME[@VERSION], as `synthetic-queries` publishes).

    `share`: of them among all training queries, at most (the paper has it low and unstated; 5 % is our reading).
    """

    tables: str | None = None
    share: float = Field(0.05, ge=0, lt=1)


class EncoderRecipe(Settings):
    """What decides the encoders; the defaults run on a laptop."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    text: ProductText = ProductText()
    spelling: SpellingSettings = SpellingSettings()
    synthetic: SyntheticSource = SyntheticSource()
    encoder: EncoderSettings = EncoderSettings(backbone="minilm", max_item_tokens=40)
    warmup: WarmupSettings = WarmupSettings()
    stage1: Stage1Settings = Stage1Settings()
    mining: MineSettings = MineSettings()
    stage2: Stage2Settings = Stage2Settings()


class RecipeSettings(EncoderRecipe):
    """Everything that can be set."""

    index: ProductIndexSettings = ProductIndexSettings()


def recipe(settings: RecipeSettings, run: Run) -> Outcome:
    """The recipe, a line a step. A step's result is an artifact; one that exists is not made again."""
    run.check = partial(check_recipe, settings, run.store)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    baselines = baselines_step(run, tables, judged, settings.encoder.backbone, settings.seed)
    warmup = train_warmup(settings, run, tables, judged)
    stage1 = train_stage1(settings, run, tables, warmup, judged)
    stage2 = mine_and_refine(settings, run, tables, stage1, judged)
    index = index_step(run, "stage2", tables, stage2, settings.index)
    earlier = {"warm-up": warmup} | ({"stage 1": stage1} if settings.stage1.enabled else {})
    report = report_step(run, tables, baselines, earlier, index, judged, settings.seed)
    return Outcome(run, report)


def check_settings(settings: EncoderRecipe, store: Store) -> None:
    """Refuse, before any work, what can't be read or found, and workers that the cluster has no room for."""
    check_encoder(located(settings.encoder))
    check_gpu(settings.mining.index)
    if settings.mining.unjudged == "judge":
        judge_version(settings.mining.judge, store)
    if settings.synthetic.tables:
        check_synthetic(settings.synthetic.tables, store)
    trainer.check_settings(settings.warmup.train, evaluates=False, name="warmup.train.")
    trainer.check_settings(settings.stage1.train, evaluates=True, name="stage1.train.")
    trainer.check_settings(settings.stage2.train, evaluates=True, name="stage2.train.")
    if settings.warmup.train.loss != "infonce":
        raise UsageError(f"warmup.train.loss={settings.warmup.train.loss}: a pseudo-query has one product; use infonce")
    for name, train in {"stage1": settings.stage1.train, "stage2": settings.stage2.train}.items():
        if train.keep_best not in (None, METRIC):
            raise UsageError(f"{name}.train.keep_best={train.keep_best}: the recipe measures {METRIC}")


def check_synthetic(name: str, store: Store) -> None:
    """Raise `UsageError` for an artifact that is not tables of judged queries."""
    folder = store.path(store.get(name).ref)
    if not all((folder / table).is_dir() for table in ("queries", "judgements")):
        raise UsageError(f"synthetic.tables={name}: has no judged queries; name tables of synthetic-queries")


def check_recipe(settings: RecipeSettings, store: Store) -> None:
    """As `check_settings`, and for the index."""
    check_settings(settings, store)
    check_gpu(settings.index)


METRIC = "ndcg@10"
"""Of the training queries held out: what a search of settings goes by."""


def search_space(settings: RecipeSettings) -> dict[str, Any]:
    """What `raylevance tune` varies: Ray Tune's domains by setting, of the parts that the recipe has.

    Raises `UsageError` for a stage that is never evaluated: trials are compared by `METRIC`.
    """
    from ray import tune

    stages = {"stage1": settings.stage1.train} if settings.stage1.enabled else {}
    for name, train in (stages | {"stage2": settings.stage2.train}).items():
        if train.evaluate_every is None:
            raise UsageError(f"{name}.train.evaluate_every=null: a search compares trials by {METRIC}; set it")
    space = {"synthetic.share": tune.uniform(0.0, 0.2)} if settings.synthetic.tables else {}
    if settings.stage1.enabled:
        space |= {
            "stage1.train.learning_rate": tune.loguniform(5e-6, 5e-5),
            "stage1.train.temperature": tune.loguniform(0.03, 0.2),
        }
    return space | {
        "warmup.train.learning_rate": tune.loguniform(1e-5, 1e-4),
        "spelling.share": tune.uniform(0.0, 0.5),
        "mining.k": tune.choice([50, 100, 200]),
        "stage2.train.learning_rate": tune.loguniform(5e-6, 5e-5),
        "stage2.train.gamma": tune.choice([16, 32, 64, 80, 128]),
        "stage2.train.boundaries.positive_2": tune.uniform(0.65, 0.85),
        "stage2.train.boundaries.negative_1": tune.uniform(0.5, 0.65),
        "stage2.train.boundaries.positive_1": tune.uniform(0.35, 0.5),
        "stage2.train.boundaries.negative_0": tune.uniform(0.15, 0.35),
    }


def trial(settings: RecipeSettings, run: Run) -> Iterator[float]:
    """`METRIC` of stage 1, where there is one, then of stage 2.

    Its artifacts have names of their own: the newest of the others stay.
    """
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    warmup = train_warmup(settings, run, tables, judged, "-trial")
    stage1 = train_stage1(settings, run, tables, warmup, judged, "encoder/stage1-trial")
    if settings.stage1.enabled:
        yield kept_metric(stage1, METRIC)
    yield kept_metric(mine_and_refine(settings, run, tables, stage1, judged, suffix="-trial"), METRIC)


def train_warmup(
    settings: EncoderRecipe, run: Run, tables: Artifact, judged: Judged | None, suffix: str = ""
) -> Artifact:
    """`encoder/warmup`: the backbone, trained without judgements.

    Of the queries of `judged` the log is read for those alone that the stages learn from; None: no log is read.
    """
    graph = None
    if judged and settings.warmup.behaviour_share:
        learned, _ = held_out(settings, judged)
        graph = clicked_graph(run, tables, learned, judged.beside(learned), settings.seed, f"graph/warmup{suffix}")
    training = Training(f"encoder/warmup{suffix}", settings.warmup.train, settings.text, settings.seed)
    return warmup_step(run, tables, settings.warmup, settings.encoder, graph, training)


def train_stage1(
    settings: EncoderRecipe, run: Run, tables: Artifact, warmup: Artifact, judged: Judged, name: str = "encoder/stage1"
) -> Artifact:
    """`encoder/stage1`: the warm encoder, trained on the graded products of the training queries of `judged`."""
    if not settings.stage1.enabled:
        return warmup
    train, synthetic = learned_from(settings, run, judged)
    inputs = [tables, warmup, *synthetic]
    return _train_judged(settings, run, settings.stage1.train, inputs, lambda: train, judged, name)


def mine_and_refine(
    settings: EncoderRecipe, run: Run, tables: Artifact, stage1: Artifact, judged: Judged, suffix: str = ""
) -> Artifact:
    """`encoder/stage2`: in each round, hard pairs mined by the newest encoder, then training on all that is known.

    A round keeps what those before it mined (our choice; the paper has one round).
    """
    train, synthetic = learned_from(settings, run, judged)
    encoder, found = stage1, list[Artifact]()
    for number in range(1, settings.stage2.rounds + 1):
        place = suffix if number == settings.stage2.rounds else f"{suffix}-round{number}"
        options = settings.mining, settings.text, settings.seed
        mined = mining_step(
            run, tables, encoder, train, *options, f"pairs/mined{place}", synthetic=synthetic, earlier=tuple(found)
        )
        found.append(mined)
        learned = partial(_with_mined, run, tuple(found), train, settings.mining)
        inputs = [tables, encoder, *found, *synthetic]
        stage2, name = settings.stage2.train, f"encoder/stage2{place}"
        also = {"with_originals": settings.mining.with_originals, "two_towers": settings.stage2.two_towers}
        encoder = _train_judged(settings, run, stage2, inputs, learned, judged, name, also)
    return encoder


def learned_from(settings: EncoderRecipe, run: Run, judged: Judged) -> tuple[Judged, list[Artifact]]:
    """The queries that the stages learn from, synthetic ones among them, and where those come from.

    A synthetic query with the text of one that is held out is left out.
    """
    train, _ = held_out(settings, judged)
    if settings.synthetic.tables is None:
        return train, []
    synthetic = run.store.get(settings.synthetic.tables)
    folder = run.store.path(synthetic.ref)
    queries, judgements = (pq.read_table(folder / name) for name in ("queries", "judgements"))
    if not pc.any(pc.is_in(judgements["product_id"], judged.products["product_id"].combine_chunks())).as_py():
        raise UsageError(f"synthetic.tables={synthetic.ref}: its judgements know none of the products")
    others = judged.queries.filter(pc.is_in(judged.queries["query_id"], judged.beside(train)))
    queries = queries.filter(
        pc.invert(pc.is_in(normalised_query(queries["query"]), normalised_query(others["query"]).combine_chunks()))
    )
    written = Judged(judged.products, queries, judgements)
    return train.with_queries(written, settings.synthetic.share, settings.seed), [synthetic]


def held_out(settings: EncoderRecipe, judged: Judged) -> tuple[Judged, Judged]:
    """The queries that people judged: those to learn from, and those that pick the best step.

    The latter are the data's own validation queries where it has some, else a part of the training ones.
    """
    return judged.train_and_validation(settings.stage1.validation_fraction, settings.seed)


def _with_mined(run: Run, mined: Sequence[Artifact], train: Judged, settings: MineSettings) -> Judged:
    return curriculum(train, pa.concat_tables(read_mined(run, each) for each in mined), settings)


def _train_judged(
    settings: EncoderRecipe,
    run: Run,
    train: ContrastiveSettings,
    inputs: list[Artifact],
    learned: Callable[[], Judged],
    judged: Judged,
    name: str,
    also: Mapping[str, Any] = MappingProxyType({}),
) -> Artifact:
    """The encoder `inputs[1]`, trained on what `learned` gives; `also` decides what that is."""
    training = Training(name, train, settings.text, settings.seed)
    made_from = training.described(
        {
            "encoder": settings.encoder.model_dump(),
            "validation_fraction": settings.stage1.validation_fraction,
            "instances": settings.stage1.instances.model_dump(),
            "spelling": settings.spelling.model_dump(),
            **also,
            "synthetic_share": settings.synthetic.share if settings.synthetic.tables else None,
            "queries": fingerprint(judged.of(TRAIN).queries["query_id"].to_pylist()),
        }
    )

    def build(draft: Draft) -> None:
        _, validation = held_out(settings, judged)
        with run.work_folder(name, made_from, [parent.ref for parent in inputs], settings.seed) as work:
            options = settings.text, settings.stage1.instances, settings.spelling, settings.seed
            write_judged_instances(learned(), work / "instances", *options)
            encoder = run.store.path(inputs[1].ref)
            if also.get("two_towers"):
                Encoder.load(encoder).with_two_towers().save(work / "two-towers")
                encoder = work / "two-towers"
            training.train(draft, encoder, work, RankingEvaluation.of(validation, settings.text))
            save_bands(draft.path, settings.text, validation)

    return run.step(name, build, settings=made_from, inputs=inputs, seed=settings.seed)
