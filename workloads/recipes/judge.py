"""The judge of Mine and Refine (arXiv 2602.17654): a model that grades pairs as people do.

    raylevance run judge [--config F] [--set gate.minimum_kappa=0.3]

Reads products and human judgements; publishes `judge/<candidate>` for each candidate, `report/judge` on the test
queries, and as `judge/relevance` the candidate that agrees best with people on held-out training queries, if it passes
the gate.
"""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged import Judged
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.encoding import backbone_digest, backbone_path
from raylevance.inference.judge import MODEL_FOLDER, JudgeSettings, save_judge
from raylevance.judges.causal_judge import CausalJudge, LoraSettings
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.grader import log_probabilities
from raylevance.judges.guideline import load_guideline
from raylevance.judges.match_regression import MatchRegression
from raylevance.judges.prompt import JudgePrompt
from raylevance.judges.verdicts import fit_temperature
from raylevance.llm.backends import model_digest, model_path
from raylevance.llm.vllm_engine import VllmSettings, load_tokenizer
from raylevance.models.encoder import Encoder, EncoderSettings, read_settings
from raylevance.progress import status
from raylevance.training import trainer
from raylevance.training.tasks.grading import Grading, GradingEvaluation, GradingSettings, load_grader
from raylevance.training.trainer import NOT_PART_OF_THE_RESULT
from workloads.run import Run
from workloads.steps.judge_report import JudgeOutcome, report_step
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.training import train_in

Candidate = Literal["regression", "cross-encoder", "llm", "zero-shot"]
VALIDATION = 0.2


class RegressionSettings(Settings):
    """The encoder whose cosine is one of the two numbers, and how much of a product's text it reads."""

    backbone: str = "minilm"
    max_tokens: PositiveInt = 96


class CrossEncoderSettings(Settings):
    """A small transformer that reads both texts together."""

    backbone: str = "minilm"
    max_tokens: PositiveInt = 96
    train: GradingSettings = GradingSettings(
        batch=16, epochs=1, learning_rate=5e-5, evaluate_every=20, checkpoint_every=40, keep_best="quadratic_kappa"
    )


class LlmSettings(Settings):
    """A language model: as it is with the guideline (zero-shot), or fine-tuned on the pairs alone (llm)."""

    model: str = "gemma"
    guideline: Path | None = None
    max_characters: PositiveInt = 300
    lora: LoraSettings = LoraSettings()
    engine: VllmSettings = VllmSettings(model="")
    train: GradingSettings = GradingSettings(
        batch=16, epochs=1, learning_rate=2e-4, evaluate_every=60, checkpoint_every=30, keep_best="quadratic_kappa"
    )


class GateSettings(Settings):
    """Below this quadratic kappa on the validation queries nothing is published as `judge/relevance`."""

    minimum_kappa: float = Field(0.2, ge=-1, le=1)


class RecipeSettings(Settings):
    """Everything that can be set. Of the training queries, `validation_fraction` pick the best step and the judge."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    text: ProductText = ProductText(details=("bullets", "description"))
    validation_fraction: float = Field(VALIDATION, gt=0, lt=1)
    candidates: tuple[Candidate, ...] = Field(("regression",), min_length=1)
    regression: RegressionSettings = RegressionSettings()
    cross_encoder: CrossEncoderSettings = CrossEncoderSettings()
    llm: LlmSettings = LlmSettings()
    gate: GateSettings = GateSettings()


def recipe(settings: RecipeSettings, run: Run) -> JudgeOutcome:
    """The recipe, a line a step."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref)).by_people()
    train, validation = judged.train_and_validation(settings.validation_fraction, settings.seed)
    pairs = {"train": GradedPairs.of(train, settings.text), "validation": GradedPairs.of(validation, settings.text)}
    make = {
        "regression": fit_regression,
        "cross-encoder": train_cross_encoder,
        "llm": train_llm,
        "zero-shot": describe_zero_shot,
    }
    candidates: dict[str, Artifact] = {name: make[name](settings, run, tables, pairs) for name in settings.candidates}
    report = report_step(run, tables, candidates, judged, pairs, settings.text, settings.seed)
    publish_best(settings.gate, run, candidates, report)
    return JudgeOutcome(run, report)


def check_settings(settings: RecipeSettings) -> None:
    """Refuse, before any work, a model that can't be found and workers that the cluster has no room for."""
    named = {"regression": settings.regression.backbone, "cross-encoder": settings.cross_encoder.backbone}
    for name in named.keys() & set(settings.candidates):
        read_settings(backbone_path(named[name]))
    if {"llm", "zero-shot"} & set(settings.candidates):
        load_tokenizer(model_path(settings.llm.model))
    if "cross-encoder" in settings.candidates:
        trainer.check_settings(settings.cross_encoder.train, evaluates=True, name="cross_encoder.train.")
    if "llm" in settings.candidates:
        trainer.check_settings(settings.llm.train, evaluates=True, name="llm.train.")
    load_guideline(settings.llm.guideline)


def fit_regression(settings: RecipeSettings, run: Run, tables: Artifact, pairs: Mapping[str, GradedPairs]) -> Artifact:
    """`judge/regression`: the grade by an encoder's cosine and the share of the query's words in the text."""
    chosen = settings.regression
    made_from = {
        "backbone": backbone_digest(chosen.backbone),
        "max_tokens": chosen.max_tokens,
        "text": settings.text.model_dump(mode="json"),
        "validation_fraction": settings.validation_fraction,
    }

    def build(draft: Draft) -> None:
        products = Judged.open(run.store.path(tables.ref)).products
        reads = EncoderSettings(backbone=str(backbone_path(chosen.backbone)), max_item_tokens=chosen.max_tokens)
        train, held_out = pairs["train"], pairs["validation"]
        catalogue, grades = settings.text.compose(products), np.asarray(train.grades)
        fitted = MatchRegression.fit(Encoder.from_backbone(reads), catalogue, train.queries, train.texts, grades)
        scores = fitted.log_probabilities(held_out.queries, held_out.texts)
        temperature = fit_temperature(scores, np.asarray(held_out.grades))
        fitted.save(draft.path / MODEL_FOLDER)
        judge = JudgeSettings(backend="regression", regression=MODEL_FOLDER, text=settings.text)
        save_judge(draft.path, judge.model_copy(update={"temperature": temperature}))
        draft.metrics |= {"regression": fitted.regression.model_dump(), "temperature": temperature}

    return run.step("judge/regression", build, settings=made_from, inputs=[tables], seed=settings.seed)


def train_cross_encoder(
    settings: RecipeSettings, run: Run, tables: Artifact, pairs: Mapping[str, GradedPairs]
) -> Artifact:
    """`judge/cross-encoder`: a new head on the backbone, trained on the graded pairs of the training queries."""
    chosen = settings.cross_encoder
    made_from = {"backbone": backbone_digest(chosen.backbone), "max_tokens": chosen.max_tokens}

    def start(folder: Path) -> None:
        CrossEncoder.from_backbone(backbone_path(chosen.backbone), chosen.max_tokens, settings.seed).save(folder)

    judge = JudgeSettings(backend="cross-encoder", cross_encoder=MODEL_FOLDER, text=settings.text)
    return _fine_tuned("judge/cross-encoder", settings, run, tables, pairs, chosen.train, made_from, start, judge)


def train_llm(settings: RecipeSettings, run: Run, tables: Artifact, pairs: Mapping[str, GradedPairs]) -> Artifact:
    """`judge/llm`: adapters on the language model, trained on the same pairs, merged for the engine."""
    chosen = settings.llm
    prompt = JudgePrompt.fine_tuned().model_copy(update={"max_characters": chosen.max_characters})
    engine = chosen.engine.model_copy(update={"model": MODEL_FOLDER})
    made_from = {
        "model": model_digest(chosen.model),
        "lora": chosen.lora.model_dump(),
        "engine": engine.model_dump(mode="json"),
        "prompt": prompt.model_dump(),
    }

    def start(folder: Path) -> None:
        CausalJudge.from_base(model_path(chosen.model), prompt, chosen.lora, settings.seed).save(folder)

    judge = JudgeSettings(backend="vllm", vllm=engine, prompt=prompt, text=settings.text)
    return _fine_tuned("judge/llm", settings, run, tables, pairs, chosen.train, made_from, start, judge)


def describe_zero_shot(
    settings: RecipeSettings, run: Run, tables: Artifact, pairs: Mapping[str, GradedPairs]
) -> Artifact:
    """`judge/zero-shot`: the language model as it is, asked with the guideline and its examples."""
    chosen = settings.llm
    guideline = load_guideline(chosen.guideline)
    prompt = JudgePrompt.zero_shot(guideline).model_copy(update={"max_characters": chosen.max_characters})
    # The demo model's folder is each machine's own.
    named = chosen.model if chosen.model == "gemma" else model_path(chosen.model)
    engine = chosen.engine.model_copy(update={"model": named})
    judge = JudgeSettings(backend="vllm", vllm=engine, prompt=prompt)

    def build(draft: Draft) -> None:
        save_judge(draft.path, judge)
        draft.metrics["guideline"] = guideline.version

    made_from = {
        "model": model_digest(chosen.model),
        "engine": engine.model_dump(mode="json"),
        "prompt": prompt.model_dump(),
    }
    return run.step("judge/zero-shot", build, settings=made_from)


def _fine_tuned(
    name: str,
    settings: RecipeSettings,
    run: Run,
    tables: Artifact,
    pairs: Mapping[str, GradedPairs],
    train: GradingSettings,
    made_from: dict[str, Any],
    start: Callable[[Path], None],
    judge: JudgeSettings,
) -> Artifact:
    """A judge trained from the model that `start` writes; the best step on the validation queries is kept."""
    described = {
        **made_from,
        "train": train.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT),
        "text": settings.text.model_dump(mode="json"),
        "validation_fraction": settings.validation_fraction,
    }

    def build(draft: Draft) -> None:
        with run.work_folder(name, described, tables.ref, settings.seed) as work:
            start(work / "model")
            pairs["train"].write(work / "pairs.parquet")
            held_out = pairs["validation"]
            task = Grading(work / "model", work / "pairs.parquet", train)
            model = train_in(work, task, draft, settings.seed, GradingEvaluation(held_out))
            trained = load_grader(model)
            scores = log_probabilities(trained, held_out.queries, held_out.texts)
            temperature = fit_temperature(scores, np.asarray(held_out.grades))
            if isinstance(trained, CausalJudge):
                trained.save_merged(draft.path / MODEL_FOLDER)
            else:
                shutil.copytree(model, draft.path / MODEL_FOLDER)
            save_judge(draft.path, judge.model_copy(update={"temperature": temperature}))
            draft.metrics["temperature"] = temperature

    return run.step(name, build, settings=described, inputs=[tables], seed=settings.seed)


def publish_best(gate: GateSettings, run: Run, candidates: Mapping[str, Artifact], report: Artifact) -> Artifact:
    """`judge/relevance`: the candidate of the highest quadratic kappa on the validation queries.

    Raises `RaylevanceError` where it is below the gate.
    """
    agreements = {name: report.metrics["judges"][name]["validation"] for name in candidates}
    best = max(agreements, key=lambda name: agreements[name]["quadratic_kappa"])
    kappa = agreements[best]["quadratic_kappa"]
    if kappa < gate.minimum_kappa:
        raise RaylevanceError(
            f"no judge passes the gate: the best, {best}, has quadratic kappa {kappa:.3f} on the validation queries, "
            f"below gate.minimum_kappa={gate.minimum_kappa}; see {report.ref}"
        )

    low, high = agreements[best]["ci95"]["quadratic_kappa"]
    if low < gate.minimum_kappa:
        status(f"{best}: quadratic kappa {kappa:.3f} [{low:.3f}, {high:.3f}]: its interval reaches below the gate")

    def build(draft: Draft) -> None:
        shutil.copytree(run.store.path(candidates[best].ref), draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink()
        draft.metrics |= {"judge": best, "agreement": agreements[best], "test": report.metrics["judges"][best]["test"]}

    return run.step("judge/relevance", build, settings=gate, inputs=[candidates[best], report])
