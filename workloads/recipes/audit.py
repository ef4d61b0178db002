"""The engagement audit of Mine and Refine (arXiv 2602.17654).

    raylevance run audit --set judge=my_stronger_judge.yaml

Training labels that contradict the behaviour of shoppers are judged again by a judge of your choice. Validation and
test labels stay as people graded them. Publishes `tables/audited`: the same tables with corrected judgements, which
keep the label that they replace, and the folder `corrections`.
"""

import shutil

import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.judge import JudgeReference
from raylevance.inference.judge import load as load_judge
from raylevance.judges.audit import AuditSettings, apply_corrections, audit, count_engagement
from workloads.run import Run
from workloads.steps.labelling import judge_pairs
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome


class AuditRecipeSettings(Settings):
    """The settings of the audit. The data needs a table of events."""

    data: DataSettings = DataSettings()
    judge: JudgeReference = "judge/relevance"
    """judge/NAME[@VERSION], or a YAML file that describes a judge."""
    text: ProductText = ProductText()
    audit: AuditSettings = AuditSettings()


def recipe(settings: AuditRecipeSettings, run: Run) -> TablesOutcome:
    """Find labels that engagement contradicts, judge them again and publish corrected tables, all in one step."""
    tables = load_tables(settings.data, run)
    judge = load_judge(run.store, settings.judge)
    events = run.store.path(tables.ref) / "events"
    if not events.is_dir():
        raise RaylevanceError(f"{tables.ref}: has no events; the audit compares labels with what shoppers did")

    def build(draft: Draft) -> None:
        folder = run.store.path(tables.ref)
        judged = JudgedTables.open(folder)
        found = audit(
            judged.split(TRAIN).judgements,
            count_engagement(pq.read_table(events)),
            lambda pairs: judge_pairs(run, judge, judged, pairs, settings.text),
            settings.audit,
        )
        shutil.copytree(
            folder, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("judgements", "corrections", "*.json")
        )
        for name, table in {
            "judgements": apply_corrections(judged.judgements, found.corrections),
            "corrections": found.corrections,
        }.items():
            (draft.path / name).mkdir()
            pq.write_table(table, draft.path / name / "part-0.parquet")
        draft.metrics |= found.summary._asdict() | {
            "changed_share": found.summary.changed_share,
            "judge": settings.judge,
        }

    described = {
        "audit": settings.audit,
        "judge": judge.labels_version,
        "text": settings.text,
    }
    artifact: Artifact = run.step(
        "tables/audited", build, settings=described, inputs=[tables], seed=settings.audit.seed
    )
    return TablesOutcome(run, artifact)
