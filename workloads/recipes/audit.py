"""The engagement audit of Mine and Refine (arXiv 2602.17654).

    raylevance run audit --set judge=my_stronger_judge.yaml

Training labels that shoppers' behaviour contradicts are judged again by a judge of your choice: what an encoder is
measured on stays as people graded it. Publishes `tables/audited`: the recipe's tables with corrected judgements, which
keep what they replaced, and the folder `corrections`.
"""

import shutil

import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged import TRAIN, Judged
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.judge import JudgeName, find_judge
from raylevance.judges.audit import AuditSettings, apply, audit, engagement
from workloads.run import Run
from workloads.steps.labelling import judge_pairs
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome


class RecipeSettings(Settings):
    """`judge`: judge/NAME[@VERSION], or a YAML file that describes one. The data need a table of events."""

    data: DataSettings = DataSettings()
    judge: JudgeName = "judge/relevance"
    text: ProductText = ProductText()
    audit: AuditSettings = AuditSettings()


def recipe(settings: RecipeSettings, run: Run) -> TablesOutcome:
    """One step: engagement, disagreement, the second judge, corrected labels."""
    tables = load_tables(settings.data, run)
    judge = find_judge(settings.judge, run.store)
    events = run.store.path(tables.ref) / "events"
    if not events.is_dir():
        raise RaylevanceError(f"{tables.ref}: has no events; the audit compares labels with what shoppers did")

    def build(draft: Draft) -> None:
        folder = run.store.path(tables.ref)
        judged = Judged.open(folder)
        found = audit(
            judged.of(TRAIN).judgements,
            engagement(pq.read_table(events)),
            lambda pairs: judge_pairs(run, judge, judged, pairs, settings.text),
            settings.audit,
        )
        shutil.copytree(
            folder, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("judgements", "corrections", "*.json")
        )
        for name, table in {
            "judgements": apply(judged.judgements, found.corrections),
            "corrections": found.corrections,
        }.items():
            (draft.path / name).mkdir()
            pq.write_table(table, draft.path / name / "part-0.parquet")
        draft.metrics |= found.summary._asdict() | {
            "changed_share": found.summary.changed_share,
            "judge": settings.judge,
        }

    made_from = {
        "audit": settings.audit.model_dump(),
        "judge": judge.labels_version,
        "text": settings.text.model_dump(),
    }
    artifact: Artifact = run.step(
        "tables/audited", build, settings=made_from, inputs=[tables], seed=settings.audit.seed
    )
    return TablesOutcome(run, artifact)
