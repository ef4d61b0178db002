"""What the recipes' training steps share: an artifact from a training run."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylevance.artifacts import Artifact, Draft
from raylevance.data.text import ProductText
from raylevance.inference.encoding import backbone_path, save_template
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.precision import asked_precision
from raylevance.training.loop import Evaluate
from raylevance.training.task import Task
from raylevance.training.tasks.contrastive.task import Contrastive, ContrastiveSettings
from raylevance.training.trainer import NOT_PART_OF_THE_RESULT, train


@dataclass(frozen=True)
class Training:
    """One training step: the encoder artifact it makes, with the template of its item texts."""

    name: str
    settings: ContrastiveSettings
    text: ProductText
    seed: int

    def described(self, made_from: dict[str, Any]) -> dict[str, Any]:
        """What decides the result: not how many workers make it, nor what a machine computes in by itself."""
        settings = self.settings.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT)
        asked = {"precision": "fp32"} if asked_precision() == "fp32" else {}
        return {"train": settings, "text": self.text.model_dump(mode="json"), **asked, **made_from}

    def train(self, draft: Draft, encoder: Path, work: Path, evaluate: Evaluate | None = None) -> None:
        """Train `encoder` on `work`/instances into `draft`; a killed run goes on from the checkpoints in `work`."""
        task = Contrastive(encoder, work / "instances", self.settings)
        model = train_in(work, task, draft, self.seed, evaluate)
        shutil.copytree(model, draft.path, dirs_exist_ok=True)
        save_template(draft.path, self.text)


def train_in(work: Path, task: Task, draft: Draft, seed: int, evaluate: Evaluate | None = None) -> Path:
    """The folder of the model that `task` trains; a killed run goes on from the checkpoints in `work`.

    The draft gets the history and the logs.
    """
    result = train(task, run_dir=work / "run", output=work / "trained", evaluate=evaluate, seed=seed)
    for logs in (work / "run").glob("log-*"):
        shutil.copytree(logs, draft.path / logs.name)
    draft.metrics |= {"steps": result.steps, "history": result.history}
    return result.model


def kept_metric(trained: Artifact, metric: str) -> float:
    """The `metric` of the model that a training step kept: its best evaluation, or the last one."""
    values = [record[metric] for record in trained.metrics["history"] if metric in record]
    keeps_best = trained.settings["train"]["keep_best"] == metric
    return float(max(values) if keeps_best else values[-1])


def new_encoder(settings: EncoderSettings, folder: Path) -> Path:
    """Write an untrained encoder on the backbone that `settings` name to `folder`, which is returned."""
    Encoder.from_backbone(located(settings)).save(folder)
    return folder


def located(settings: EncoderSettings) -> EncoderSettings:
    """`settings` with the backbone's folder in the place of its name."""
    return settings.model_copy(update={"backbone": str(backbone_path(settings.backbone))})
