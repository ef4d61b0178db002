"""Judges by reference: an artifact `judge/NAME[@VERSION]`, a YAML file that describes a judge, or `zero-shot`."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from raylevance.artifacts import Store, fingerprint
from raylevance.config import load_settings
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError, UsageError
from raylevance.judges.grader_judge import grader_judge
from raylevance.judges.judge import Judge
from raylevance.judges.labelling import Labelling
from raylevance.judges.llm_judge import llm_judge
from raylevance.judges.settings import JudgeSettings
from raylevance.llm.backends import model_digest, model_path
from raylevance.llm.endpoint import Endpoint, read_api_key
from raylevance.llm.vllm_engine import VllmModel, VllmSettings, load_causal_tokenizer

SETTINGS_SUFFIXES = (".yaml", ".yml")
JUDGE_FILE = "judge.json"
MODEL_FOLDER = "model"
ZERO_SHOT = "zero-shot"
MODEL_VARIABLE = "RAYLEVANCE_LLM"
"""The environment variable that names the language model of `zero-shot`: a folder or a Hugging Face id."""
DEMO_MODEL = "gemma"


def _absolute_file(reference: str) -> str:
    """Make the path of a YAML file absolute, since a trial or a job on a cluster runs in another folder."""
    return str(Path(reference).absolute()) if Path(reference).suffix in SETTINGS_SUFFIXES else reference


JudgeReference = Annotated[str, AfterValidator(_absolute_file)]
"""`judge/NAME[@VERSION]`, `zero-shot`, or a YAML file that describes a judge."""


@dataclass(frozen=True)
class LoadedJudge:
    """A judge that is ready to label pairs. Its model is loaded when it first labels."""

    labelling: Labelling
    """The judge, and how its answers become labels."""
    agreement: dict[str, Any] | None
    """Its agreement with people on queries held out of its training; None where it is not known."""
    text: ProductText | None
    """The template of the product texts that it was trained on; None for a judge that reads any text."""
    worth: dict[str, Any] | None = None
    """What it adds to a hybrid search for queries held out of its training; None where it is not known."""

    @property
    def labels_version(self) -> str:
        """A name of everything that decides the labels, as `judge_version` returns it."""
        return _labels_version(self.labelling.version, self.labelling.temperature, self.labelling.threshold)


@dataclass(frozen=True)
class _Description:
    settings: JudgeSettings
    version: str
    """A name of the judge and of everything that decides its answers."""
    model: Path | None = None
    """The folder of the model in the store, or of a grader; None for the language model that the settings name."""
    agreement: dict[str, Any] | None = None
    worth: dict[str, Any] | None = None


def load(store: Store, reference: str) -> LoadedJudge:
    """Load `judge/NAME[@VERSION]` of the store, the judge that a YAML file describes, or `zero-shot`.

    `zero-shot` is the language model that `MODEL_VARIABLE` names, with the guideline, on vLLM. It needs no training.
    Without the variable it is Gemma 3 270M, whose agreement with people is low.
    Raises `UsageError` for another kind of reference, `RaylevanceError` if there is no such judge or model.
    """
    return _load(_describe(store, reference))


def _load(description: "_Description") -> LoadedJudge:
    settings = description.settings
    labelling = Labelling(
        judge=_open_judge(settings, description.model),
        version=description.version,
        temperature=settings.temperature,
        threshold=settings.threshold,
        reads_prompts=not settings.is_grader,
    )
    return LoadedJudge(labelling, description.agreement, settings.text, description.worth)


def judge_version(store: Store, reference: str) -> str:
    """Return a name of everything that decides the labels of a judge, without loading its model.

    Raises `UsageError` and `RaylevanceError` as `load` does.
    """
    description = _describe(store, reference)
    return _labels_version(description.version, description.settings.temperature, description.settings.threshold)


def require_judge(store: Store, reference: str) -> None:
    """Raise what `load` raises, and `UsageError` if the API key of its server is not set. No model is loaded."""
    description = _describe(store, reference)
    _load(description)
    if (endpoint := description.settings.endpoint) is not None:
        read_api_key(endpoint.api_key_env)


def named_language_model() -> str | None:
    """Return the language model that `MODEL_VARIABLE` names; None where it is unset or empty."""
    return os.environ.get(MODEL_VARIABLE) or None


def learned_from_judgements(store: Store, reference: str) -> bool:
    """Return whether a judge was trained on judgements, so that it may know the queries of a test fold."""
    return reference.startswith("judge/") or _describe(store, reference).settings.is_grader


def save_judge(folder: Path, settings: JudgeSettings) -> None:
    """Write `judge.json` to `folder`. If the settings name `model`, the model must be in its subfolder `model`."""
    (folder / JUDGE_FILE).write_text(json.dumps(settings.model_dump(mode="json"), indent=1), encoding="utf-8")


def _labels_version(answers_version: str, temperature: float, threshold: float) -> str:
    return f"{answers_version}, temperature {temperature:g}, threshold {threshold:g}"


def _describe(store: Store, reference: str) -> _Description:
    if reference == ZERO_SHOT:
        named = named_language_model() or DEMO_MODEL
        return _describe_own(JudgeSettings(backend="vllm", vllm=VllmSettings(model=named)), reference)
    if reference.startswith("judge/"):
        artifact = store.get(reference)
        folder = store.path(artifact.ref)
        settings = JudgeSettings.model_validate_json((folder / JUDGE_FILE).read_text(encoding="utf-8"))
        version = f"{artifact.name.partition('/')[2]}@{artifact.version}"
        model = folder / MODEL_FOLDER
        agreement = artifact.metrics.get("agreement") or artifact.metrics.get("out_of_fold")
        worth = artifact.metrics.get("worth")
        return _Description(settings, version, model if model.is_dir() else None, agreement, worth)
    file = Path(reference)
    if file.suffix not in SETTINGS_SUFFIXES:
        expected = f"judge/NAME[@VERSION], {ZERO_SHOT}, or a YAML file that describes a judge"
        raise UsageError(f"judge {reference!r}: expected {expected}")
    return _describe_own(load_settings(JudgeSettings, file), file.stem)


def _describe_own(settings: JudgeSettings, name: str) -> _Description:
    """Describe a judge that is not in the store. Its version names the content of its settings and of its model."""
    model = settings.model
    if model and settings.is_grader and not Path(model).is_dir():
        raise RaylevanceError(f"judge {name}: {model}: no such folder with a {settings.backend}")
    digest = model_digest(model) if model else None
    prompt = settings.chosen_prompt().model_dump()
    version = f"{name}@{fingerprint(settings.answer_settings(), digest, prompt)}"
    # Absolute, since an actor may run in another folder. The settings stay as they are: they are part of the version.
    folder = Path(model).absolute() if model and settings.is_grader else None
    return _Description(settings, version, folder)


def _open_judge(settings: JudgeSettings, model: Path | None) -> Judge:
    if settings.is_grader:
        return grader_judge(settings.backend, str(model or settings.grader_folder))
    prompt = settings.chosen_prompt()
    if settings.endpoint is not None:
        return llm_judge(Endpoint(settings.endpoint), prompt)
    assert settings.vllm is not None
    engine = settings.vllm.model_copy(update={"model": str(model or model_path(settings.vllm.model))})
    return llm_judge(VllmModel(engine), prompt.in_chat(load_causal_tokenizer(engine.model)))
