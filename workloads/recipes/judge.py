"""The judge of Mine and Refine (arXiv 2602.17654): a model that grades query-product pairs as people do.

    raylevance run judge [--config F] [--set gate.minimum_kappa=0.3]

Reads products and human judgements. Publishes `judge/<candidate>` for each candidate, `report/judge` on the test
queries, and `judge/relevance`: the candidate that agrees best with people on queries that it did not learn from, if it
passes the gate.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.config import AbsolutePath, FolderOrName, Settings
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.data.text import ProductText
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError, UsageError, nearest
from raylevance.inference.encoder import backbone_digest, backbone_path
from raylevance.inference.judge import MODEL_FOLDER, save_judge
from raylevance.judges.causal_judge import CausalJudge, LoraSettings
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.grade_decisions import fit_temperature
from raylevance.judges.grader import log_probabilities
from raylevance.judges.guideline import load_guideline
from raylevance.judges.prompt import JudgePrompt
from raylevance.judges.settings import JudgeSettings
from raylevance.judges.worth import why_worthless
from raylevance.llm.backends import model_digest, model_path
from raylevance.llm.vllm_engine import VllmSettings, check_vllm_installed, load_causal_tokenizer
from raylevance.models.encoder import read_encoder_settings
from raylevance.progress import status
from raylevance.training import trainer
from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.grading import METRICS, Grading, GradingEvaluation, GradingSettings, load_grader
from workloads.run import Run
from workloads.steps.encoder_training import Trainer, training_settings
from workloads.steps.judge_data import NO_PAIRS, JudgeData, read_graded_pairs
from workloads.steps.judge_report import JudgeOutcome, report_step
from workloads.steps.match_judge import JUDGE_TEXT, WORTH, RegressionSettings, joined_queries, match_judge_step
from workloads.steps.tables import DataSettings, load_tables

Candidate = Literal["regression", "cross-encoder", "llm", "zero-shot"]
VALIDATION = 0.2


class CrossEncoderSettings(Settings):
    """The cross-encoder candidate: a small transformer that reads query and product together."""

    backbone: FolderOrName = Field("minilm", validate_default=False)
    max_tokens: PositiveInt = 96
    train: GradingSettings = GradingSettings(
        batch=16, epochs=1, learning_rate=5e-5, evaluate_every=20, keep_best="quadratic_kappa"
    )


class LlmSettings(Settings):
    """The language-model candidates: with the guideline as it is (zero-shot), or fine-tuned on the pairs (llm)."""

    model: FolderOrName = Field("gemma", validate_default=False)
    guideline: AbsolutePath | None = None
    max_characters: PositiveInt = 300
    lora: LoraSettings = LoraSettings()
    engine: VllmSettings = VllmSettings(model="")
    train: GradingSettings = GradingSettings(
        batch=16, epochs=1, learning_rate=2e-4, evaluate_every=60, keep_best="quadratic_kappa"
    )


class GateSettings(Settings):
    """The thresholds that a judge must reach, on queries held out of its training, to be published."""

    minimum_kappa: float = Field(0.2, ge=-1, le=1)
    """The least quadratic kappa."""
    minimum_gain: float = Field(0.0, ge=-1, le=1)
    """The gain in nDCG@10 must be above this, when the judge ranks a hybrid search's best results again; -1 asks for
    no gain. To train on its labels, mining asks more of a judge."""


class JudgeRecipeSettings(Settings):
    """All settings of the recipe."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    text: ProductText = JUDGE_TEXT
    """The text of a product that the judges read."""
    pairs: AbsolutePath | None = None
    """A file of further pairs that people graded, to learn from: query, product_text, and grade (0 to 2) or relevance
    (ESCI's 0 to 3). Its texts are read as they are."""
    validation_fraction: float = Field(VALIDATION, gt=0, lt=1)
    candidates: tuple[Candidate, ...] = Field(("regression",), min_length=1)
    regression: RegressionSettings = RegressionSettings()
    cross_encoder: CrossEncoderSettings = CrossEncoderSettings()
    llm: LlmSettings = LlmSettings()
    gate: GateSettings = GateSettings()
    machine: MachineSettings = MachineSettings()


def recipe(settings: JudgeRecipeSettings, run: Run) -> JudgeOutcome:
    """Make the candidates, measure them against people, and publish the best one if it passes the gate."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref)).without_model_grades()
    data = split_pairs(settings, run, tables, judged)
    make = {
        "regression": fit_regression,
        "cross-encoder": train_cross_encoder,
        "llm": train_llm,
        "zero-shot": describe_zero_shot,
    }
    candidates: dict[str, Artifact] = {name: make[name](settings, data) for name in settings.candidates}
    report = report_step(data, judged.split(TEST), candidates, settings.regression.backbone)
    publish_best(settings.gate, run, candidates, report)
    return JudgeOutcome(run, report)


def split_pairs(settings: JudgeRecipeSettings, run: Run, tables: Artifact, judged: JudgedTables) -> JudgeData:
    """Split the pairs that people judged into those to learn from and those that pick the best step and judge."""
    train, validation = judged.train_and_validation(settings.validation_fraction, settings.seed)
    further = read_graded_pairs(settings.pairs, judged.queries["query"]) if settings.pairs else NO_PAIRS
    return JudgeData(
        run=run,
        tables=tables,
        further=further,
        learnable=joined_queries(train, validation),
        held_out=validation,
        train=GradedPairs.from_tables(train, settings.text).joined(further),
        validation=GradedPairs.from_tables(validation, settings.text),
        text=settings.text,
        trainer=Trainer(settings.machine, settings.seed),
    )


def fit_regression(settings: JudgeRecipeSettings, data: JudgeData) -> Artifact:
    """Return `judge/regression`: it learns from the validation queries too, since no step has to be picked."""
    return match_judge_step(
        data.run,
        "judge/regression",
        data.tables,
        data.learnable,
        settings.regression,
        data.text,
        settings.seed,
        further=data.further if data.further.queries else None,
    )


def train_cross_encoder(settings: JudgeRecipeSettings, data: JudgeData) -> Artifact:
    """Return `judge/cross-encoder`: a new head on the backbone, trained on the graded pairs."""
    chosen = settings.cross_encoder

    def start(folder: Path) -> None:
        CrossEncoder.from_backbone(backbone_path(chosen.backbone), chosen.max_tokens, settings.seed).save(folder)

    candidate = FineTuned(
        name="judge/cross-encoder",
        start=start,
        made_from={"backbone": backbone_digest(chosen.backbone), "max_tokens": chosen.max_tokens},
        train=chosen.train,
        judge=JudgeSettings(backend="cross-encoder", cross_encoder=MODEL_FOLDER, text=data.text),
    )
    return fine_tuned_step(data, candidate, settings.validation_fraction)


def train_llm(settings: JudgeRecipeSettings, data: JudgeData) -> Artifact:
    """Return `judge/llm`: adapters on the language model, trained on the graded pairs and merged for the engine."""
    chosen = settings.llm
    prompt = JudgePrompt.fine_tuned().model_copy(update={"max_characters": chosen.max_characters})
    engine = chosen.engine.model_copy(update={"model": MODEL_FOLDER})

    def start(folder: Path) -> None:
        CausalJudge.from_base(model_path(chosen.model), prompt, chosen.lora, settings.seed).save(folder)

    candidate = FineTuned(
        name="judge/llm",
        start=start,
        made_from={
            "model": model_digest(chosen.model),
            "lora": chosen.lora,
            "engine": engine.answer_settings(),
            "prompt": prompt,
            # Not a setting: models from when they were asked in the chat template of their base are made anew.
            "asked": "as trained",
        },
        train=chosen.train,
        judge=JudgeSettings(backend="vllm", vllm=engine, prompt=prompt, text=data.text),
    )
    return fine_tuned_step(data, candidate, settings.validation_fraction)


def describe_zero_shot(settings: JudgeRecipeSettings, data: JudgeData) -> Artifact:
    """Return `judge/zero-shot`: the language model as it is, asked with the guideline and its examples."""
    chosen = settings.llm
    guideline = load_guideline(chosen.guideline)
    prompt = JudgePrompt.zero_shot(guideline).model_copy(update={"max_characters": chosen.max_characters})
    # The demo model is unpacked into a folder of each machine, so it stays named.
    named = chosen.model if chosen.model == "gemma" else model_path(chosen.model)
    engine = chosen.engine.model_copy(update={"model": named})
    judge = JudgeSettings(backend="vllm", vllm=engine, prompt=prompt)

    def build(draft: Draft) -> None:
        save_judge(draft.path, judge)
        draft.metrics["guideline"] = guideline.version

    described = {"model": model_digest(chosen.model), "engine": engine.answer_settings(), "prompt": prompt}
    return data.run.step("judge/zero-shot", build, settings=described)


@dataclass(frozen=True)
class FineTuned:
    """A judge that is trained from the model that `start` writes to a folder."""

    name: str
    start: Callable[[Path], None]
    made_from: Mapping[str, Any]
    """The settings that decide the model at the start."""
    train: GradingSettings
    judge: JudgeSettings
    """How the trained model is asked."""


def fine_tuned_step(data: JudgeData, candidate: FineTuned, validation_fraction: float) -> Artifact:
    """Train a judge on the graded pairs; the best step on the validation queries is kept and its temperature fitted."""

    def build(draft: Draft) -> None:
        with data.run.work_folder() as work:
            candidate.start(work / "model")
            data.train.write(work / "pairs.parquet")
            held_out = data.validation
            task = Grading(work / "model", work / "pairs.parquet", candidate.train)
            model = data.trainer.train(task, draft, work, GradingEvaluation(held_out))
            trained = load_grader(model)
            scores = log_probabilities(trained, held_out.queries, held_out.texts)
            temperature = fit_temperature(scores, np.asarray(held_out.grades))
            if isinstance(trained, CausalJudge):
                trained.save_merged(draft.path / MODEL_FOLDER)
            else:
                shutil.copytree(model, draft.path / MODEL_FOLDER)
            save_judge(draft.path, candidate.judge.model_copy(update={"temperature": temperature}))
            draft.metrics["temperature"] = temperature

    others = {**candidate.made_from, "validation_fraction": validation_fraction}
    if data.further.queries:
        others["further"] = fingerprint(data.further.queries, data.further.texts, data.further.grades)
    described = training_settings(candidate.train, data.text, **others)
    return data.run.step(candidate.name, build, settings=described, inputs=[data.tables], seed=data.trainer.seed)


def publish_best(gate: GateSettings, run: Run, candidates: Mapping[str, Artifact], report: Artifact) -> Artifact:
    """Return `judge/relevance`: of the candidates that pass the gate, that of the highest quadratic kappa.

    Raises `RaylevanceError` when none passes, with the reason of each.
    """
    measured = {name: report.metrics["judges"][name] for name in candidates}
    refused = {name: why for name in candidates if (why := why_refused(measured[name], gate))}
    passing = [name for name in candidates if name not in refused]
    if not passing:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise RaylevanceError(
            f"no judge passes the gate, so none is published ({reasons}); judge more queries, or set other candidates "
            f"(llm.model names a language model); training on people's grades alone needs no judge; see {report.ref}"
        )

    best = max(passing, key=lambda name: measured[name]["validation"]["quadratic_kappa"])
    agreement, worth = measured[best]["validation"], measured[best][WORTH]
    low, high = agreement["ci95"]["quadratic_kappa"]
    if low < gate.minimum_kappa:
        kappa = agreement["quadratic_kappa"]
        status(f"{best}: quadratic kappa {kappa:.3f} [{low:.3f}, {high:.3f}]: its interval reaches below the gate")
    if uncertain := why_worthless(worth, gate.minimum_gain, certain=True):
        status(f"{best}: published, but mining will not train on its labels: {uncertain}")

    def build(draft: Draft) -> None:
        shutil.copytree(run.store.path(candidates[best].ref), draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink()
        draft.metrics |= {"judge": best, "agreement": agreement, WORTH: worth, "test": measured[best]["test"]}

    return run.step("judge/relevance", build, settings=gate, inputs=[candidates[best], report])


def why_refused(measured: Mapping[str, Any], gate: GateSettings) -> str | None:
    """Return why a judge does not pass the gate, in one line; None where it does."""
    kappa = measured["validation"]["quadratic_kappa"]
    if kappa < gate.minimum_kappa:
        return f"quadratic kappa {kappa:.3f} is below gate.minimum_kappa={gate.minimum_kappa}"
    return why_worthless(measured[WORTH], gate.minimum_gain, certain=False)


def check_settings(settings: JudgeRecipeSettings) -> None:
    """Refuse, before any work, what can't be found or measured, and workers that the cluster has no room for."""
    named = {"regression": settings.regression.backbone, "cross-encoder": settings.cross_encoder.backbone}
    for name in named.keys() & set(settings.candidates):
        read_encoder_settings(backbone_path(named[name]))
    if {"llm", "zero-shot"} & set(settings.candidates):
        check_vllm_installed()
        load_causal_tokenizer(model_path(settings.llm.model))
    trained = {"cross-encoder": ("cross_encoder", settings.cross_encoder.train), "llm": ("llm", settings.llm.train)}
    for candidate, (name, train) in trained.items():
        if candidate in settings.candidates:
            trainer.check_settings(train, settings.machine, evaluates=True, name=f"{name}.train.")
            if train.keep_best is not None and train.keep_best not in METRICS:
                raise UsageError(f"{name}.train.keep_best={train.keep_best}: {nearest(train.keep_best, list(METRICS))}")
    load_guideline(settings.llm.guideline)
    if settings.pairs:
        read_table(settings.pairs, ["query", "product_text"])
