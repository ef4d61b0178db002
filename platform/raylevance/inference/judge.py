"""Judges by name: an artifact `judge/NAME`, or a YAML file that describes one of your own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import pyarrow as pa
import ray
import ray.data
from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from raylevance.artifacts import Store, fingerprint
from raylevance.config import Settings, load_settings
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError, UsageError
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.guideline import load_guideline
from raylevance.judges.labelling import Labelling
from raylevance.judges.llm_judge import Judge, llm_judge
from raylevance.judges.match_regression import MatchRegression
from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.backends import model_digest, model_path
from raylevance.llm.endpoint import Endpoint, EndpointSettings
from raylevance.llm.language_model import ANSWERS
from raylevance.llm.vllm_engine import VllmModel, VllmSettings, load_tokenizer


def _absolute(name: str) -> str:
    """A trial or a job on a cluster runs in another folder."""
    return str(Path(name).absolute()) if Path(name).suffix in JUDGE_FILES else name


JUDGE_FILES = (".yaml", ".yml")
JudgeName = Annotated[str, AfterValidator(_absolute)]
"""judge/NAME[@VERSION], `ZERO_SHOT`, or a YAML file that describes a judge."""

NOT_PART_OF_THE_ANSWER: Any = {
    "temperature": True,
    "threshold": True,
    "vllm": {"engines", "stuck_after_s", "started_within_s"},
    "endpoint": {"concurrency", "timeout_s", "max_retries", "max_wait_s"},
}
"""How an answer is read, and how it is asked for: a judge's answers are kept under a name without these."""

JUDGE_FILE = "judge.json"
MODEL_FOLDER = "model"
ZERO_SHOT = "zero-shot"
GRADERS: dict[str, Callable[[str], Any]] = {"cross-encoder": CrossEncoder.load, "regression": MatchRegression.load}


class JudgeSettings(Settings):
    """What answers, and how its answers are read: `vllm`, `endpoint`, or a folder, as `backend` says.

    `text`: the template of the product texts it learned from; None: it takes any.
    `prompt`: None for the guideline (`guideline`: a YAML file, None for the one that comes with the library).
    `temperature` divides the log-probabilities, `threshold` is the confidence below which it abstains.
    """

    backend: Literal["vllm", "endpoint", "cross-encoder", "regression"]
    vllm: VllmSettings | None = None
    endpoint: EndpointSettings | None = None
    cross_encoder: str | None = None
    regression: str | None = None
    text: ProductText | None = None
    guideline: Path | None = None
    prompt: JudgePrompt | None = None
    temperature: PositiveFloat = 1.0
    threshold: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _backend_is_described(self) -> Self:
        if getattr(self, self.backend.replace("-", "_")) is None:
            raise ValueError(f"backend={self.backend}: set {self.backend.replace('-', '_')}")
        return self


@dataclass(frozen=True)
class NamedJudge:
    """A judge ready for work. `agreement`: with people, on queries held out of its training; None where unknown.

    `text`: the template that it learned from; None: it takes any.
    """

    labelling: Labelling
    agreement: dict[str, Any] | None
    text: ProductText | None

    @property
    def labels_version(self) -> str:
        """As `judge_version`: its answers, and how they are read."""
        return _labels_version(self.labelling.version, self.labelling.temperature, self.labelling.threshold)


@dataclass(frozen=True)
class _Description:
    """What a name stands for. `model`: its folder in the store, None where the settings name it."""

    settings: JudgeSettings
    version: str
    model: Path | None = None
    agreement: dict[str, Any] | None = None


def find_judge(name: str, store: Store) -> NamedJudge:
    """`judge/NAME[@VERSION]` of the store, the judge that the YAML file `name` describes, or `zero-shot`.

    zero-shot: Gemma 3 270M with the guideline, on vLLM; it needs no training, and little can be expected of it.
    """
    found = _describe(name, store)
    settings = found.settings
    judge = _judge(settings, found.model)
    reads_prompts = settings.backend not in GRADERS
    labelling = Labelling(judge, found.version, settings.temperature, settings.threshold, reads_prompts)
    return NamedJudge(labelling, found.agreement, settings.text)


def learned_from_judgements(name: str, store: Store) -> bool:
    """Whether the judge was fitted to judgements, so that it may know the queries of a test fold."""
    return name.startswith("judge/") or _describe(name, store).settings.backend in GRADERS


def judge_version(name: str, store: Store) -> str:
    """What decides the labels of the judge that `find_judge` finds, without opening its model. Raises as it does."""
    found = _describe(name, store)
    return _labels_version(found.version, found.settings.temperature, found.settings.threshold)


def _labels_version(answers: str, temperature: float, threshold: float) -> str:
    return f"{answers}, temperature {temperature:g}, threshold {threshold:g}"


def _describe(name: str, store: Store) -> _Description:
    if name == ZERO_SHOT:
        return _own(JudgeSettings(backend="vllm", vllm=VllmSettings(model="gemma")), name)
    if name.startswith("judge/"):
        artifact = store.get(name)
        folder = store.path(artifact.ref)
        settings = JudgeSettings.model_validate_json((folder / JUDGE_FILE).read_text(encoding="utf-8"))
        version = f"{artifact.name.partition('/')[2]}@{artifact.version}"
        model = folder / MODEL_FOLDER
        return _Description(settings, version, model if model.is_dir() else None, artifact.metrics.get("agreement"))
    if Path(name).suffix not in JUDGE_FILES:
        expected = f"judge/NAME[@VERSION], {ZERO_SHOT}, or a YAML file that describes a judge"
        raise UsageError(f"judge {name!r}: expected {expected}")
    return _own(load_settings(JudgeSettings, Path(name)), Path(name).stem)


def _own(settings: JudgeSettings, name: str) -> _Description:
    described = settings.model_dump(mode="json", exclude=NOT_PART_OF_THE_ANSWER)
    folder = settings.vllm.model if settings.vllm else settings.regression or settings.cross_encoder
    if folder and settings.backend in GRADERS and not Path(folder).is_dir():
        raise RaylevanceError(f"judge {name}: {folder}: no such folder with a {settings.backend}")
    held = model_digest(folder) if folder else None
    return _Description(settings, f"{name}@{fingerprint(described, held, _prompt(settings).model_dump())}")


def save_judge(folder: Path, settings: JudgeSettings) -> None:
    """Write `judge.json`; the model is in the folder `model` beside it."""
    (folder / JUDGE_FILE).write_text(json.dumps(settings.model_dump(mode="json"), indent=1), encoding="utf-8")


def _judge(settings: JudgeSettings, model: Path | None) -> Judge:
    if settings.backend in GRADERS:
        named = getattr(settings, settings.backend.replace("-", "_"))
        return partial(grade_on_cluster, backend=settings.backend, model=str(model or named))
    if settings.endpoint is not None:
        return llm_judge(Endpoint(settings.endpoint), _prompt(settings))
    assert settings.vllm is not None
    engine = settings.vllm.model_copy(update={"model": str(model or model_path(settings.vllm.model))})
    return llm_judge(VllmModel(engine), _prompt(settings).in_chat(load_tokenizer(engine.model)))


class GradePairs:
    """A Ray Data actor that holds one of `GRADERS`."""

    def __init__(self, backend: str, model: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._grader = GRADERS[backend](model).to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, pairs: pa.Table) -> pa.Table:
        texts = pairs["query"].to_pylist(), pairs["product_text"].to_pylist()
        tokens = [len(ids) for ids in self._grader.tokenize(*texts)]
        rows = {
            "key": pairs["key"],
            "log_probabilities": list(self._grader.log_probabilities(*texts)),
            "tokens": tokens,
        }
        empty = pa.nulls(len(tokens), pa.string())
        return pa.table({**rows, "text": empty, "error": empty.fill_null("")}).select(ANSWERS.names).cast(ANSWERS)


def grade_on_cluster(pairs: ray.data.Dataset, backend: str, model: str) -> ray.data.Dataset:
    """Rows of `ANSWERS` from one grader a GPU, or a machine with all its processors."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    machines = sum(node["Alive"] for node in ray.nodes())
    return pairs.map_batches(
        cast(Any, GradePairs),
        fn_constructor_args=(backend, model, max(1, int(resources["CPU"]) // machines)),
        batch_format="pyarrow",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=gpus or machines),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )


def _prompt(settings: JudgeSettings) -> JudgePrompt:
    return settings.prompt or JudgePrompt.zero_shot(load_guideline(settings.guideline))
