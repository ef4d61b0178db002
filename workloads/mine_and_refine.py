"""Mine and Refine (arXiv 2602.17654), its first half: a two-tower retriever trained on graded judgements.

    raylevance run mine-and-refine [--config F] [--set stage1.train.epochs=2]

Reads products and judgements; publishes `tables/<data set>`, `report/baselines`, `encoder/warmup`, `encoder/stage1`,
`index/stage1` and `report/mine-and-refine`.
"""

from functools import partial

from pydantic import Field

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.config import Settings
from raylevance.data.instances import InstanceSettings
from raylevance.data.text import ProductText
from raylevance.index.vectors import IndexSettings
from raylevance.models.encoder import Encoder, EncoderSettings, read_settings
from raylevance.training import trainer
from raylevance.training.contrastive import ContrastiveSettings
from workloads.encode import backbone_digest, backbone_path
from workloads.indexing import index_step
from workloads.judged import TRAIN, Judged
from workloads.reports import Outcome, baselines_step, report_step
from workloads.sources import DataSettings, load_tables
from workloads.steps import Run
from workloads.trainings import Training, write_judged_instances, write_pseudo_queries


class WarmupSettings(Settings):
    """In-batch InfoNCE on pseudo-queries cut from titles (our choice: stage 1 alone overfits on few queries)."""

    queries_per_product: int = Field(1, gt=0)
    train: ContrastiveSettings = ContrastiveSettings(loss="infonce", batch=64, max_steps=100, checkpoint_every=25)


class Stage1Settings(Settings):
    """Label-weighted SupCon on judged instances (section 4.2); the best step on held-out training queries is kept."""

    validation_fraction: float = Field(0.2, gt=0, lt=1)
    instances: InstanceSettings = InstanceSettings()
    train: ContrastiveSettings = ContrastiveSettings(
        loss="supcon", batch=8, evaluate_every=2, checkpoint_every=6, keep_best="ndcg@10"
    )


class EncoderRecipe(Settings):
    """What decides the encoders; the defaults run on a laptop."""

    seed: int = 0
    data: DataSettings = DataSettings()
    text: ProductText = ProductText()
    encoder: EncoderSettings = EncoderSettings(backbone="minilm", max_item_tokens=40)
    warmup: WarmupSettings = WarmupSettings()
    stage1: Stage1Settings = Stage1Settings()


class RecipeSettings(EncoderRecipe):
    """Everything that can be set."""

    index: IndexSettings = IndexSettings()


def recipe(settings: RecipeSettings, run: Run) -> Outcome:
    """The recipe, a line a step. A step's result is an artifact; one that exists is not made again."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    baselines = baselines_step(run, tables, judged, settings.encoder.backbone, settings.seed)
    warmup = train_warmup(settings, run, tables)
    stage1 = train_stage1(settings, run, tables, warmup, judged)
    index = index_step(run, "stage1", tables, stage1, settings.index)
    report = report_step(run, tables, baselines, warmup, index, judged, settings.seed)
    return Outcome(run, report)


def check_settings(settings: EncoderRecipe) -> None:
    """Refuse, before any work, a backbone that can't be read and workers that the cluster has no room for."""
    read_settings(backbone_path(settings.encoder.backbone))
    trainer.check_settings(settings.warmup.train, evaluates=False)
    trainer.check_settings(settings.stage1.train, evaluates=True)


def train_warmup(settings: EncoderRecipe, run: Run, tables: Artifact) -> Artifact:
    """`encoder/warmup`: the backbone, trained to find a product by a few words of its title."""
    training = Training("encoder/warmup", settings.warmup.train, settings.text, settings.seed)
    made_from = training.described(
        {
            "encoder": settings.encoder.model_dump(),
            "backbone": backbone_digest(settings.encoder.backbone),
            "queries_per_product": settings.warmup.queries_per_product,
        }
    )

    def build(draft: Draft) -> None:
        with run.work_folder(training.name, made_from, tables.ref, settings.seed) as work:
            backbone = settings.encoder.model_copy(update={"backbone": str(backbone_path(settings.encoder.backbone))})
            Encoder.from_backbone(backbone).save(work / "backbone")
            products = run.store.path(tables.ref) / "products"
            each = settings.warmup.queries_per_product
            write_pseudo_queries(products, work / "instances", settings.text, each, settings.seed)
            training.train(draft, work / "backbone", work)

    return run.step(training.name, build, settings=made_from, inputs=[tables], seed=settings.seed)


def train_stage1(
    settings: EncoderRecipe,
    run: Run,
    tables: Artifact,
    warmup: Artifact,
    judged: Judged,
    name: str = "encoder/stage1",
) -> Artifact:
    """`encoder/stage1`: the warm encoder, trained on the graded products of the training queries of `judged`."""
    training = Training(name, settings.stage1.train, settings.text, settings.seed)
    made_from = training.described(
        {
            "encoder": settings.encoder.model_dump(),
            "validation_fraction": settings.stage1.validation_fraction,
            "instances": settings.stage1.instances.model_dump(),
            "queries": fingerprint(judged.of(TRAIN).queries["query_id"].to_pylist()),
        }
    )

    def build(draft: Draft) -> None:
        train, validation = judged.hold_out(TRAIN, settings.stage1.validation_fraction, settings.seed)
        with run.work_folder(training.name, made_from, warmup.ref, tables.ref, settings.seed) as work:
            write_judged_instances(train, work / "instances", settings.text, settings.stage1.instances)
            training.train(draft, run.store.path(warmup.ref), work, validation.ranking(settings.text))

    return run.step(training.name, build, settings=made_from, inputs=[tables, warmup], seed=settings.seed)
