"""Judges by name: an artifact `judge/NAME`, or a YAML file that describes one of your own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from raylevance.artifacts import Store, fingerprint
from raylevance.config import Settings, load_settings
from raylevance.errors import RaylevanceError, UsageError
from raylevance.llm.guideline import load_guideline
from raylevance.llm.judge import Judge, llm_judge
from raylevance.llm.labelling import Labelling
from raylevance.llm.prompt import JudgePrompt
from raylevance.llm.vllm_engine import VllmModel, VllmSettings, load_tokenizer
from workloads.language_models import model_path

JUDGE_FILE = "judge.json"
MODEL_FOLDER = "model"


class JudgeSettings(Settings):
    """What answers, and how its answers are read.

    `prompt`: None for the guideline (`guideline`: a YAML file, None for the one that comes with the library).
    `temperature` divides the log-probabilities, `threshold` is the confidence below which it abstains.
    """

    backend: Literal["vllm", "cross-encoder"]
    vllm: VllmSettings | None = None
    guideline: Path | None = None
    prompt: JudgePrompt | None = None
    temperature: PositiveFloat = 1.0
    threshold: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _backend_is_described(self) -> Self:
        if self.backend == "vllm" and self.vllm is None:
            raise ValueError("backend=vllm: set vllm.model")
        return self


@dataclass(frozen=True)
class NamedJudge:
    """A judge ready for work. `agreement`: with people, on queries held out of its training; None where unknown."""

    labelling: Labelling
    agreement: dict[str, Any] | None


def find_judge(name: str, store: Store) -> NamedJudge:
    """`judge/NAME[@VERSION]` of the store, or the judge that the YAML file `name` describes."""
    if name.startswith("judge/"):
        artifact = store.get(name)
        folder = store.path(artifact.ref)
        settings = JudgeSettings.model_validate_json((folder / JUDGE_FILE).read_text(encoding="utf-8"))
        version = f"{artifact.name.partition('/')[2]}@{artifact.version}"
        agreement = artifact.metrics.get("agreement")
        return NamedJudge(_labelling(settings, folder / MODEL_FOLDER, version), agreement)
    if Path(name).suffix not in (".yaml", ".yml"):
        raise UsageError(f"--judge {name}: expected judge/NAME[@VERSION], or a YAML file that describes a judge")
    settings = load_settings(JudgeSettings, Path(name))
    described = settings.model_dump(mode="json", exclude={"temperature", "threshold"})
    version = f"{Path(name).stem}@{fingerprint(described, _prompt(settings).model_dump())}"
    return NamedJudge(_labelling(settings, None, version), None)


def save_judge(folder: Path, settings: JudgeSettings) -> None:
    """Write `judge.json`; the model is in the folder `model` beside it."""
    (folder / JUDGE_FILE).write_text(json.dumps(settings.model_dump(mode="json"), indent=1), encoding="utf-8")


def _labelling(settings: JudgeSettings, model: Path | None, version: str) -> Labelling:
    return Labelling(_judge(settings, model), version, settings.temperature, settings.threshold)


def _judge(settings: JudgeSettings, model: Path | None) -> Judge:
    if settings.backend == "vllm":
        assert settings.vllm is not None
        engine = settings.vllm.model_copy(update={"model": str(model or model_path(settings.vllm.model))})
        return llm_judge(VllmModel(engine), _prompt(settings).in_chat(load_tokenizer(engine.model)))
    raise RaylevanceError("cross-encoder")


def _prompt(settings: JudgeSettings) -> JudgePrompt:
    return settings.prompt or JudgePrompt.zero_shot(load_guideline(settings.guideline))
