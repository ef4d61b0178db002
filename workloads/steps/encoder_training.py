"""Train models within a step: the fingerprint of a training, the training itself, and the files that are kept."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.encoder import backbone_digest, backbone_path, save_template
from raylevance.losses.triplet import EQUAL_WITHIN
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.precision import requested_precision
from raylevance.training.loop import Evaluate
from raylevance.training.settings import MachineSettings, TrainSettings
from raylevance.training.task import Task
from raylevance.training.tasks.contrastive.task import Contrastive, ContrastiveSettings
from raylevance.training.trainer import train


@dataclass(frozen=True)
class Trainer:
    """Trains the models of one run: on the machine that the user describes, with one seed."""

    machine: MachineSettings
    seed: int

    def train(self, task: Task, draft: Draft, work: Path, evaluate: Evaluate | None = None) -> Path:
        """Train `task` and return the folder of its model; a killed run continues from the checkpoints in `work`.

        The history and the logs of the training are kept in `draft`.
        """
        run_dir, output = work / "run", work / "trained"
        result = train(task, self.machine, run_dir=run_dir, output=output, evaluate=evaluate, seed=self.seed)
        for logs in run_dir.glob("log-*"):
            shutil.copytree(logs, draft.path / logs.name)
        draft.metrics |= {"steps": result.steps, "history": result.history}
        return result.model

    def train_encoder(
        self,
        encoder: Path,
        settings: ContrastiveSettings,
        text: ProductText,
        draft: Draft,
        work: Path,
        evaluate: Evaluate | None = None,
    ) -> None:
        """Train `encoder` on the instances in `work`/instances into `draft`, with the template of its item texts."""
        model = self.train(Contrastive(encoder, work / "instances", settings), draft, work, evaluate)
        shutil.copytree(model, draft.path, dirs_exist_ok=True)
        save_template(draft.path, text)


def training_settings(train: TrainSettings, text: ProductText, **others: Any) -> dict[str, Any]:
    """Return the settings of a step that trains: those of the training, the item texts, and `others` by name.

    Float32 is part of them where RAYLEVANCE_PRECISION asks for it, because it changes the weights. So is the rule by
    which InfoNCE leaves out positives of the query, and that by which the triplet loss leaves out instances, which make
    a model anew that was trained without them.
    """
    precision = precision_settings()
    loss = train.loss if isinstance(train, ContrastiveSettings) else None
    rules = {
        "infonce": {"negatives": "no positive of the query in any instance"},
        "triplet": {"compared": f"items whose labels differ by more than {EQUAL_WITHIN}"},
    }
    return {"train": train, "text": text, **precision, **rules.get(loss or "", {}), **others}


def precision_settings() -> dict[str, str]:
    """Return float32 as a setting of a step that encodes, where RAYLEVANCE_PRECISION asks for it."""
    return {"precision": "fp32"} if requested_precision() == "fp32" else {}


def besides_training(settings: Settings) -> dict[str, Any]:
    """Return the fields of `settings` other than `train`, as the `others` of `training_settings`."""
    return {field: value for field, value in settings if field != "train"}


def backbone_settings(encoder: EncoderSettings) -> dict[str, Any]:
    """Return the settings of a step that starts from a backbone: the encoder's, and a digest of the backbone."""
    return {"encoder": encoder, "backbone": backbone_digest(encoder.backbone)}


def new_encoder(settings: EncoderSettings, folder: Path) -> Path:
    """Write an encoder on the backbone that `settings` name, before any training, to `folder` and return it."""
    Encoder.from_backbone(with_backbone_path(settings)).save(folder)
    return folder


def with_backbone_path(settings: EncoderSettings) -> EncoderSettings:
    """Return `settings` with the folder of the backbone instead of its name."""
    return settings.model_copy(update={"backbone": str(backbone_path(settings.backbone))})


def kept_step(trained: Artifact) -> int:
    """Return the step of the model that a training step kept: the best by `keep_best`, else the last."""
    metric = trained.settings["train"]["keep_best"]
    measured = [record for record in trained.metrics["history"] if metric in record]
    return int(max(measured, key=lambda record: record[metric])["step"] if metric else trained.metrics["steps"])


def kept_metric(trained: Artifact, metric: str) -> float:
    """Return the `metric` of the model that a training step kept, as it was last measured up to `kept_step`.

    Raises `RaylevanceError` if the training never measured it.
    """
    kept = kept_step(trained)
    measured = [record for record in trained.metrics["history"] if metric in record and record["step"] <= kept]
    if not measured:
        raise RaylevanceError(f"{trained.ref}: its training never measured {metric}; set evaluate_every")
    return float(measured[-1][metric])
