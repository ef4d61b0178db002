"""The engagement audit of Mine and Refine (arXiv 2602.17654).

    raylevance run audit --set judge=my_stronger_judge.yaml

Training labels that contradict the behaviour of shoppers are judged again by a judge of your choice. The grades that it
would change are written to a review file. Accept or reject them there and run the same command again: it applies those
that are accepted. `--apply` applies all of them at once. Validation and test labels stay as people graded them.

Publishes `pairs/corrections`, the changes that the judge proposes, and `tables/audited`: the same tables with corrected
judgements, which keep the label that they replace, and the folder `corrections`.
"""

import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.config import AbsolutePath, Settings
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.judge import JudgeReference
from raylevance.inference.judge import load as load_judge
from raylevance.judges.audit import CORRECTIONS, AuditSettings, apply_corrections, audit, count_engagement
from raylevance.judges.audit_review import (
    ACCEPTED,
    DECISIONS,
    REJECTED,
    UNDECIDED,
    correction_ids,
    read_decisions,
    review_corrections,
)
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.labelling import judge_pairs
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome

PROPOSED = "corrections.parquet"
READING = 2
"""Goes up when the same labels give other corrections or figures, so that those from before are not taken for them."""
NAMED_CORRECTIONS = 3
"""How many undecided corrections are named in the line about them; the review file has all."""


class AuditRecipeSettings(Settings):
    """The settings of the audit. The data needs a table of events."""

    data: DataSettings = DataSettings()
    judge: JudgeReference = "judge/relevance"
    """judge/NAME[@VERSION], or a YAML file that describes a judge."""
    text: ProductText = ProductText()
    audit: AuditSettings = AuditSettings()
    review: AbsolutePath = Field(Path("audit_review.csv"), validate_default=False)
    """The file in which a person decides about each correction. It is written by the first run and read by the next."""
    apply: bool = False
    """Apply every correction without a review, also those that the review file rejects."""


def recipe(settings: AuditRecipeSettings, run: Run) -> TablesOutcome:
    """Propose corrections of the labels that engagement contradicts, and publish tables with the accepted ones."""
    tables = load_tables(settings.data, run)
    proposed = propose_corrections(settings, run, tables)
    if not_judged := sum(proposed.metrics["not_judged"].values()):
        disputed = sum(proposed.metrics["disagreements"].values())
        status(f"audit: the judge gave no grade to {not_judged} of {disputed} disputed labels, which stay as they are")
    table = pq.read_table(run.store.path(proposed.ref) / PROPOSED)
    return TablesOutcome(run, correct_tables(run, tables, proposed, table, decide(settings, table)))


def propose_corrections(settings: AuditRecipeSettings, run: Run, tables: Artifact) -> Artifact:
    """Return `pairs/corrections`: the labels to which the judge gives another grade, with the texts of their pairs."""
    judge = load_judge(run.store, settings.judge)
    events = run.store.path(tables.ref) / "events"
    if not events.is_dir():
        raise RaylevanceError(f"{tables.ref}: has no events; the audit compares labels with what shoppers did")

    def build(draft: Draft) -> None:
        judged = JudgedTables.open(run.store.path(tables.ref))
        found = audit(
            judged.split(TRAIN).judgements,
            count_engagement(pq.read_table(events)),
            lambda pairs: judge_pairs(run, judge, judged, pairs, settings.text),
            settings.audit,
        )
        texts = pair_texts(judged, found.corrections, judge.text or settings.text)
        columns = {name: found.corrections[name] for name in CORRECTIONS.names}
        pq.write_table(
            pa.table({**columns, **{name: texts[name] for name in texts.column_names}}), draft.path / PROPOSED
        )
        draft.metrics |= found.summary._asdict() | {
            "changed_share": found.summary.changed_share,
            "judge": settings.judge,
        }

    described = {"audit": settings.audit, "judge": judge.labels_version, "text": settings.text, "reading": READING}
    return run.step("pairs/corrections", build, settings=described, inputs=[tables], seed=settings.audit.seed)


def decide(settings: AuditRecipeSettings, proposed: pa.Table) -> list[str]:
    """Return the decision about each proposed correction: that of the review file, or `accepted` with `apply`."""
    if settings.apply:
        known = read_decisions(settings.review)
        against = sum(known.get(name) == REJECTED for name in correction_ids(proposed))
        overruled = f", {against} of them rejected in {settings.review}" if against else ""
        status(f"audit: all {proposed.num_rows} corrections are applied without a review{overruled}")
        return [ACCEPTED] * proposed.num_rows
    review = review_corrections(
        settings.review, proposed.select(CORRECTIONS.names), proposed.select(["query", "product_text"])
    )
    count = Counter(review.decisions)
    line = f"audit: {proposed.num_rows} corrections proposed: {count[ACCEPTED]} accepted and applied, "
    line += f"{count[REJECTED]} rejected, {count[UNDECIDED]} undecided"
    waiting = zip(correction_ids(proposed), review.decisions, strict=True)
    names = [name for name, decision in waiting if decision == UNDECIDED]
    if names:
        more = ", ..." if len(names) > NAMED_CORRECTIONS else ""
        line += f" ({', '.join(names[:NAMED_CORRECTIONS])}{more}); decide in {settings.review} and run again"
    if review.no_longer_proposed:
        line += (
            f"; {review.no_longer_proposed} rows of {settings.review} are about corrections that are not proposed now"
        )
    status(line)
    return review.decisions


def correct_tables(
    run: Run, tables: Artifact, proposed: Artifact, corrections: pa.Table, decisions: list[str]
) -> Artifact:
    """Return `tables/audited`: the tables with the accepted `corrections`, and these in a folder of their own."""
    accepted = corrections.filter(pa.array([decision == ACCEPTED for decision in decisions], pa.bool_()))
    accepted = accepted.select(CORRECTIONS.names)
    counts = {decision: decisions.count(decision) for decision in DECISIONS}

    def build(draft: Draft) -> None:
        folder = run.store.path(tables.ref)
        shutil.copytree(
            folder, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("judgements", "corrections", "*.json")
        )
        for name, table in {
            "judgements": apply_corrections(JudgedTables.open(folder).judgements, accepted),
            "corrections": accepted,
        }.items():
            (draft.path / name).mkdir()
            pq.write_table(table, draft.path / name / "part-0.parquet")
        draft.metrics |= proposed.metrics | counts

    described = {"accepted": fingerprint(sorted(correction_ids(accepted))), **counts}
    return run.step("tables/audited", build, settings=described, inputs=[tables, proposed])
