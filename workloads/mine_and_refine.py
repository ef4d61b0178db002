"""Mine and Refine (arXiv 2602.17654), its first half: a two-tower retriever trained on graded judgements.

    raylevance run mine-and-refine [--config F] [--set stage1.train.epochs=2]

Reads products and judgements; publishes `tables/<data set>`, `report/baselines`, `encoder/warmup`, `encoder/stage1`,
`index/stage1` and `report/mine-and-refine`. Figure 1 of the paper, read top to bottom:
"""

from pydantic import Field
from raylevance.data.instances import InstanceSettings
from raylevance.index.vectors import IndexSettings

from raylevance.config import Settings
from raylevance.data.text import ProductText
from raylevance.models.encoder import EncoderSettings
from raylevance.training.settings import TrainSettings
from workloads.sources import DataSettings
from workloads.steps import Run


class WarmupSettings(Settings):
    """In-batch InfoNCE on pseudo-queries cut from titles (our choice: 60 judged queries alone overfit)."""

    queries_per_product: int = Field(1, gt=0)
    train: TrainSettings = TrainSettings(loss="infonce", batch=64, max_steps=150, learning_rate=5e-5)


class Stage1Settings(Settings):
    """Label-weighted SupCon on judged instances (section 4.2), the best step by a validation split kept."""

    validation_fraction: float = Field(0.2, gt=0, lt=1)
    instances: InstanceSettings = InstanceSettings()
    train: TrainSettings = TrainSettings(loss="supcon", batch=16, epochs=2, learning_rate=2e-5)


class RecipeSettings(Settings):
    """Everything that can be set; the defaults run on a laptop."""

    seed: int = 0
    data: DataSettings = DataSettings()
    text: ProductText = ProductText()
    encoder: EncoderSettings = EncoderSettings(backbone="minilm")
    warmup: WarmupSettings = WarmupSettings()
    stage1: Stage1Settings = Stage1Settings()
    index: IndexSettings = IndexSettings()


def recipe(settings: RecipeSettings, run: Run) -> "Outcome":
    """The recipe, a line a step. Each step's result is an artifact; one that exists is not made again."""
    tables = import_tables(settings, run)
    baselines = rank_baselines(settings, run, tables)
    warmup = train_warmup(settings, run, tables)
    stage1 = train_stage1(settings, run, tables, warmup)
    index = build_index(settings, run, tables, stage1)
    report = write_report(settings, run, tables, baselines, warmup, stage1, index)
    return Outcome(run, report)
