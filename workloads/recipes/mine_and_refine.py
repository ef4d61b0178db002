"""Mine and Refine (arXiv 2602.17654): a two-tower retriever whose scores separate three grades of relevance.

    raylevance run mine-and-refine [--config F] [--set stage1.train.epochs=2]

Reads products, judgements and, where there is one, a log of events. Publishes `tables/<data set>`, `report/baselines`,
`graph/warmup` (with a log), `encoder/warmup`, `encoder/stage1`, `pairs/mined`, `encoder/stage2`, `index/stage2` and
`report/mine-and-refine`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from raylevance.artifacts import Artifact, Store
from raylevance.config import Settings
from raylevance.data.graded_instances import InstanceSettings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.spelling import SpellingSettings
from raylevance.data.text import ProductText
from raylevance.errors import UsageError
from raylevance.index.products import ProductIndexSettings
from raylevance.index.sharded_search import check_cluster_gpu
from raylevance.index.vectors import check_gpu
from raylevance.inference.judge import ZERO_SHOT, named_language_model, require_judge
from raylevance.losses.circle import Boundaries
from raylevance.models.encoder import EncoderSettings, check_encoder_settings
from raylevance.training import trainer
from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.contrastive.task import SUPCON_TEMPERATURE, ContrastiveSettings
from workloads.run import Run
from workloads.steps.encoder_training import Trainer, kept_metric, with_backbone_path
from workloads.steps.indexing import index_step
from workloads.steps.judged_training import JudgedTraining, judged_training_step
from workloads.steps.mining import MineSettings, mining_step, why_nothing_is_added
from workloads.steps.mining_judge import BEST, best_judge
from workloads.steps.retrieval_data import RetrievalData, SyntheticSource, check_has_queries
from workloads.steps.retrieval_report import RetrievalOutcome, baselines_step, report_step
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.warmup import WarmupSettings, warmup_step

METRIC = "ndcg@10"
"""The metric on validation queries that picks the best step, and that a search of settings compares trials by."""
TEMPERATURES = {"supcon": (0.1, 1.0), "infonce": (0.03, 0.3)}
"""The range in which a search of settings draws the temperature of stage 1, by its loss."""


class Stage1Settings(Settings):
    """Stage 1: label-weighted SupCon on judged instances (section 4.2 of the paper)."""

    enabled: bool = True
    """Train stage 1; false starts stage 2 from the warm-up, for comparison."""
    most_queries: PositiveInt | None = None
    """The largest number of judged queries that both stages learn from, drawn by hash; null for all. Half of them tells
    what twice as many would be worth."""
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    """The share of the training queries that picks the best step, where the data has no validation split."""
    instances: InstanceSettings = InstanceSettings()
    train: ContrastiveSettings = ContrastiveSettings(
        loss="supcon", temperature=SUPCON_TEMPERATURE, batch=8, max_steps=12, evaluate_every=4, keep_best=METRIC
    )


class Stage2Settings(Settings):
    """Stage 2: multi-class circle loss on the data of stage 1 and the mined hard pairs."""

    rounds: PositiveInt = 1
    """How often to mine with the newest encoder and train on all pairs mined so far. The paper has one round."""
    two_towers: bool = False
    """Give queries and items a tower each from here on, both starting from stage 1's, for comparison."""
    train: ContrastiveSettings = ContrastiveSettings(loss="circle", batch=8, max_steps=12, evaluate_every=6)


class EncoderRecipe(Settings):
    """The settings that decide the encoders, and the machine they are trained on. The defaults run on a laptop."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    text: ProductText = ProductText()
    spelling: SpellingSettings = SpellingSettings()
    synthetic: SyntheticSource = SyntheticSource()
    encoder: EncoderSettings = EncoderSettings(backbone="minilm", max_item_tokens=64)
    warmup: WarmupSettings = WarmupSettings()
    stage1: Stage1Settings = Stage1Settings()
    mining: MineSettings = MineSettings()
    stage2: Stage2Settings = Stage2Settings()
    machine: MachineSettings = MachineSettings()


class MineAndRefineSettings(EncoderRecipe):
    """All settings of the recipe."""

    index: ProductIndexSettings = ProductIndexSettings()


def recipe(settings: MineAndRefineSettings, run: Run) -> RetrievalOutcome:
    """Run the recipe: one line for each step, and a step whose artifact exists is not made again."""
    run.check = partial(check_recipe, settings, run.store)
    tables = load_tables(settings.data, run)
    data = split_queries(settings, run, tables, JudgedTables.open(run.store.path(tables.ref)))
    baselines = baselines_step(data, settings.encoder.backbone)
    warmup = warm_up(settings, data)
    stage1 = train_stage1(settings, data, warmup)
    encoder, mined = stage1, list[Artifact]()
    for _ in range(settings.stage2.rounds):
        mined.append(mine_hard_pairs(settings, data, encoder, mined))
        encoder = train_stage2(settings, data, encoder, mined)
    index = index_step(run, "stage2", tables, encoder, settings.index)
    earlier = {"warm-up": warmup} | ({"stage 1": stage1} if settings.stage1.enabled else {})
    return RetrievalOutcome(run, report_step(data, baselines, earlier, index))


def split_queries(settings: EncoderRecipe, run: Run, tables: Artifact, judged: JudgedTables) -> RetrievalData:
    """Split the training queries of `judged` into those to learn from and those that pick the best step."""
    return RetrievalData.split(
        run,
        tables,
        judged,
        validation_fraction=settings.stage1.validation_fraction,
        most_queries=settings.stage1.most_queries,
        synthetic=settings.synthetic,
        text=settings.text,
        trainer=Trainer(settings.machine, settings.seed),
    )


def warm_up(settings: EncoderRecipe, data: RetrievalData, suffix: str = "", *, read_log: bool = True) -> Artifact:
    """Return `encoder/warmup`: the backbone, trained without judgements. With `read_log=False` no log is read."""
    return warmup_step(data, suffix, settings.warmup, settings.encoder, read_log=read_log)


def train_stage1(settings: EncoderRecipe, data: RetrievalData, warmup: Artifact, suffix: str = "") -> Artifact:
    """Return `encoder/stage1`: the warm encoder, trained on the graded products of the training queries."""
    if not settings.stage1.enabled:
        return warmup
    training = judged_training(settings, settings.stage1.train)
    return judged_training_step(data, f"encoder/stage1{suffix}", warmup, training)


def mine_hard_pairs(
    settings: EncoderRecipe, data: RetrievalData, encoder: Artifact, earlier: Sequence[Artifact], suffix: str = ""
) -> Artifact:
    """Return `pairs/mined`: hard pairs that `encoder` finds, graded; `earlier` are those of the previous rounds."""
    name = f"pairs/mined{suffix}{_round(settings, len(earlier) + 1)}"
    return mining_step(data, name, encoder, with_best_judge(settings, data, suffix), earlier)


def with_best_judge(settings: EncoderRecipe, data: RetrievalData, suffix: str = "") -> MineSettings:
    """Return the settings of mining with the judge that `best` stands for."""
    mining = settings.mining
    if mining.unjudged != "judge" or mining.judge != BEST:
        return mining
    judge = best_judge(data, settings.encoder.backbone, suffix)
    return mining.model_copy(update={"judge": judge or BEST})


def train_stage2(
    settings: EncoderRecipe, data: RetrievalData, encoder: Artifact, mined: Sequence[Artifact], suffix: str = ""
) -> Artifact:
    """Return `encoder/stage2`: `encoder`, trained on the judgements and the pairs of all rounds of mining."""
    training = judged_training(settings, settings.stage2.train).model_copy(
        update={"with_originals": settings.mining.with_originals, "two_towers": settings.stage2.two_towers}
    )
    name = f"encoder/stage2{suffix}{_round(settings, max(1, len(mined)))}"
    return judged_training_step(data, name, encoder, training, mined)


def refine(settings: EncoderRecipe, data: RetrievalData, stage1: Artifact, suffix: str) -> Artifact:
    """Return the last `encoder/stage2` of all rounds of mining and training, as `recipe` makes them, for studies."""
    encoder, mined = stage1, list[Artifact]()
    for _ in range(settings.stage2.rounds):
        mined.append(mine_hard_pairs(settings, data, encoder, mined, suffix))
        encoder = train_stage2(settings, data, encoder, mined, suffix)
    return encoder


def judged_training(settings: EncoderRecipe, train: ContrastiveSettings) -> JudgedTraining:
    """Return what decides a stage besides its data: the settings of its training and those that all stages share."""
    return JudgedTraining(
        train=train,
        encoder=settings.encoder,
        instances=settings.stage1.instances,
        spelling=settings.spelling,
        validation_fraction=settings.stage1.validation_fraction,
        synthetic_share=settings.synthetic.share if settings.synthetic.tables else None,
    )


def _round(settings: EncoderRecipe, number: int) -> str:
    """Name the artifacts of every round but the last, whose names are plain."""
    return "" if number == settings.stage2.rounds else f"-round{number}"


def check_encoders(settings: EncoderRecipe, store: Store) -> None:
    """Refuse, before any work, what can't be read or found, and workers that the cluster has no room for."""
    check_encoder_settings(with_backbone_path(settings.encoder))
    check_cluster_gpu(settings.mining.index, "mining.index.")
    settings.synthetic.check(store)
    if settings.warmup.enabled and settings.warmup.synthetic:
        check_has_queries(store, "warmup.synthetic", settings.warmup.synthetic)
    trainer.check_settings(settings.warmup.train, settings.machine, evaluates=False, name="warmup.train.")
    for name, train in {"stage1": settings.stage1.train, "stage2": settings.stage2.train}.items():
        trainer.check_settings(train, settings.machine, evaluates=True, name=f"{name}.train.")
        if train.keep_best not in (None, METRIC):
            raise UsageError(f"{name}.train.keep_best={train.keep_best}: the recipe measures {METRIC}")
    if settings.warmup.train.loss != "infonce":
        raise UsageError(f"warmup.train.loss={settings.warmup.train.loss}: a pseudo-query has one product; use infonce")


def check_judges(minings: Iterable[MineSettings], store: Store) -> None:
    """Refuse judges that can't be asked here, such as a language model without a tokenizer; no model is loaded."""
    asked = {each.judge for each in minings if each.unjudged == "judge"}
    if BEST in asked:
        asked = asked - {BEST} | ({ZERO_SHOT} if named_language_model() else set())
    for judge in sorted(asked):
        require_judge(store, judge)


def check_settings(settings: EncoderRecipe, store: Store) -> None:
    """Refuse what `check_encoders` and `check_judges` refuse."""
    check_encoders(settings, store)
    check_judges([settings.mining], store)


def check_recipe(settings: MineAndRefineSettings, store: Store) -> None:
    """Refuse what `check_settings` refuses, and an index that the machine can't search."""
    check_settings(settings, store)
    check_gpu(settings.index)


def settings_to_search(settings: MineAndRefineSettings) -> MineAndRefineSettings:
    """Return `settings` with the temperature at which stage 1 starts, in place of null."""
    train = settings.stage1.train
    if train.loss not in TEMPERATURES:
        return settings
    train = train.model_copy(update={"temperature": train.initial_temperature})
    return settings.model_copy(update={"stage1": settings.stage1.model_copy(update={"train": train})})


def search_space(settings: MineAndRefineSettings) -> dict[str, Any]:
    """Return what `raylevance tune` varies: Ray Tune's domains by setting, without those that can't matter.

    Raises `UsageError` for a stage that is never evaluated, because trials are compared by `METRIC`.
    """
    unread = unread_settings(settings)
    return {name: domain for name, domain in _whole_space(settings).items() if name not in unread}


def unsearched_settings(settings: MineAndRefineSettings) -> dict[str, str]:
    """Return the settings that `raylevance tune` would vary if they could matter, each with the reason."""
    space = _whole_space(settings)
    return {name: reason for name, reason in unread_settings(settings).items() if name in space}


def settings_without_effect(settings: MineAndRefineSettings, run: Run) -> dict[str, str]:
    """Return the searched settings that turned out not to matter in the trial that `run` made, each with the reason.

    It is `mining.k` where the judge failed its gate in every round: the mined pairs are then among the judged ones.
    """
    mined = [artifact.metrics for artifact in run.made if artifact.name.startswith("pairs/mined")]
    reasons = [reason for metrics in mined if (reason := why_nothing_is_added(metrics))]
    if not settings.mining.with_originals or not reasons or len(reasons) < len(mined):
        return {}
    return {"mining.k": reasons[-1]}


def _whole_space(settings: MineAndRefineSettings) -> dict[str, Any]:
    from ray import tune

    stages = {"stage1": settings.stage1.train} if settings.stage1.enabled else {}
    for name, train in (stages | {"stage2": settings.stage2.train}).items():
        if train.evaluate_every is None:
            raise UsageError(f"{name}.train.evaluate_every=null: a search compares trials by {METRIC}; set it")
    mining = settings.mining
    searched_k = [k for k in (50, 100, 200) if int(k * mining.cut) > mining.skip_top] or [mining.k]
    return {
        "synthetic.share": tune.uniform(0.0, 0.2),
        "stage1.train.learning_rate": tune.loguniform(5e-6, 5e-5),
        "stage1.train.temperature": tune.loguniform(*TEMPERATURES.get(settings.stage1.train.loss, (0.1, 1.0))),
        "warmup.train.learning_rate": tune.loguniform(1e-5, 1e-4),
        "spelling.share": tune.uniform(0.0, 0.5),
        "mining.k": tune.choice(searched_k),
        "stage2.train.learning_rate": tune.loguniform(5e-6, 5e-5),
        "stage2.train.gamma": tune.choice([16, 32, 64, 80, 128]),
        "stage2.train.boundaries.positive_2": tune.uniform(0.65, 0.85),
        "stage2.train.boundaries.negative_1": tune.uniform(0.5, 0.65),
        "stage2.train.boundaries.positive_1": tune.uniform(0.35, 0.5),
        "stage2.train.boundaries.negative_0": tune.uniform(0.15, 0.35),
    }


def unread_settings(settings: EncoderRecipe) -> dict[str, str]:
    """Return the settings that can't matter under `settings`, each with the reason, so that no study varies them.

    They are those of the settings that studies vary that no step reads, and those of mining where it adds no pair.
    """
    mining, stage1, stage2 = settings.mining, settings.stage1, settings.stage2
    found: dict[str, str] = {}
    if mining.unjudged == "skip":
        reason = "mining.unjudged=skip: mining adds no pair to those that are judged"
        found["mining.with_originals"] = reason
        if mining.with_originals:
            found |= dict.fromkeys(("mining.k", "mining.skip_top"), reason)
    if settings.spelling.mode == "none":
        found["spelling.share"] = "spelling.mode=none: no query is misspelt"
    if settings.spelling.share == 0:
        found["spelling.mode"] = "spelling.share=0: no query is misspelt"
    if not settings.synthetic.tables:
        found["synthetic.share"] = "synthetic.tables=null: there are no synthetic queries"
    elif settings.synthetic.share == 0:
        found["synthetic.tables"] = "synthetic.share=0: no synthetic query is taken"
    if not settings.warmup.enabled:
        found["warmup.train.learning_rate"] = "warmup.enabled=false: the backbone is not warmed up"
    if not stage1.enabled:
        names = ("loss", "reduction", "learning_rate", "temperature")
        reason = "stage1.enabled=false: stage 1 is not trained"
        found |= dict.fromkeys([f"stage1.train.{name}" for name in names], reason)
    elif stage1.train.loss not in TEMPERATURES:
        found["stage1.train.temperature"] = f"stage1.train.loss={stage1.train.loss}: it has no temperature"
    if stage2.train.loss != "circle":
        reason = f"stage2.train.loss={stage2.train.loss}: only the circle loss reads it"
        of_circle = ["gamma", "detach_weights", *(f"boundaries.{name}" for name in Boundaries.model_fields)]
        found |= dict.fromkeys([f"stage2.train.{name}" for name in of_circle], reason)
    if not settings.encoder.tied:
        found["stage2.two_towers"] = "encoder.tied=false: queries and items have a tower each already"
    return found


def trial(settings: MineAndRefineSettings, run: Run) -> Iterator[float]:
    """Yield `METRIC` of stage 1, where there is one, then of stage 2.

    The artifacts of a trial have names of their own, so the newest version of the recipe's own stays the newest.
    """
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    data = split_queries(settings, run, tables, JudgedTables.open(run.store.path(tables.ref)))
    stage1 = train_stage1(settings, data, warm_up(settings, data, "-trial"), "-trial")
    if settings.stage1.enabled:
        yield kept_metric(stage1, METRIC)
    yield kept_metric(refine(settings, data, stage1, "-trial"), METRIC)
