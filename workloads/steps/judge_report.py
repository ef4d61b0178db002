"""The report of the judges: each candidate's agreement with people, on validation and test queries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged import TEST, Judged
from raylevance.data.text import ProductText
from raylevance.evaluation.agreement import accuracy_by_coverage, agreement, by_slice, calibration
from raylevance.inference.judge import find_judge
from workloads.run import Run
from workloads.steps.labelling import label_table

SHOWN = ("accuracy", "within_1", "macro_f1", "kappa", "quadratic_kappa")
HALF = 0.5


@dataclass(frozen=True)
class JudgeOutcome:
    """The report of a run of the recipe."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        artifacts = {artifact.name: artifact.ref for artifact in self.run.made}
        return {"artifacts": artifacts, "report": str(self.run.store.path(self.report.ref)), **self.report.metrics}

    def as_table(self) -> Table:
        """A judge a row: agreement on the test queries with 95% intervals, and accuracy on the half it is surest of."""
        metrics = self.report.metrics
        title = f"{metrics['pairs']} pairs of {metrics['queries']} test queries of {metrics['data']}"
        table = Table("", *SHOWN, "accuracy at half coverage", box=None, pad_edge=False, title=title)
        table.title_justify = "left"
        for name, measured in metrics["judges"].items():
            test = measured["test"]
            cells = [f"{test[key]:.3f} [{test['ci95'][key][0]:.3f}, {test['ci95'][key][1]:.3f}]" for key in SHOWN]
            half = next(row for row in measured["coverage"] if row["coverage"] <= HALF)
            table.add_row(name, *cells, f"{half['accuracy']:.3f}")
        table.caption, table.caption_justify = f"report: {self.run.store.path(self.report.ref)}", "left"
        return table


def report_step(
    run: Run,
    tables: Artifact,
    candidates: Mapping[str, Artifact],
    judged: Judged,
    pairs: Mapping[str, GradedPairs],
    text: ProductText,
    seed: int,
) -> Artifact:
    """`report/judge`: every candidate, labelling as it will, beside the grade most training pairs have."""

    def build(draft: Draft) -> None:
        test = GradedPairs.of(judged.of(TEST), text)
        majority = int(np.bincount(pairs["train"].grades).argmax())
        sure = np.ones(len(test.grades))
        judges = {"majority": measure(np.full(len(test.grades), majority), sure, test, seed)}
        for name, judge in candidates.items():
            parts = {"validation": pairs["validation"], "test": test}
            found = {part: grade(run, judge, graded) for part, graded in parts.items()}
            judges[name] = measure(*found["test"], test, seed)
            judges[name]["validation"] = _agreement(found["validation"][0], pairs["validation"], seed)
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "queries": len(set(test.query_ids)),
            "pairs": len(test.grades),
            "seed": seed,
            "judges": judges,
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    made_from = {"text": text.model_dump(mode="json")}
    return run.step("report/judge", build, settings=made_from, inputs=[tables, *candidates.values()], seed=seed)


def grade(run: Run, judge: Artifact, pairs: GradedPairs) -> tuple[Any, Any]:
    """The judge's grades and confidences [n] of the pairs, made as `raylevance label` makes them.

    A pair it can't judge has the grade -1.
    """
    asked = pa.table({"query": pairs.queries, "product_text": pairs.texts})
    labels = label_table(asked, find_judge(judge.ref, run.store).labelling, run.store)
    return labels["grade"].fill_null(-1).to_numpy(), labels["confidence"].fill_null(0.0).to_numpy()


def measure(predicted: Any, confidence: Any, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    """All that is known of grades and their confidences [n] against those of `pairs`."""
    kept = predicted >= 0
    grades, human = predicted[kept], np.asarray(pairs.grades)[kept]
    words = [f"{min(len(query.split()), 6)} words" for query in np.asarray(pairs.queries)[kept]]
    return {
        "test": _agreement(predicted, pairs, seed),
        "not_judged": int((~kept).sum()),
        "coverage": accuracy_by_coverage(grades, human, confidence[kept]),
        "calibration": calibration(grades, human, confidence[kept]),
        "by_category": by_slice(grades, human, list(np.asarray(pairs.categories)[kept])),
        "by_query_length": by_slice(grades, human, words),
    }


def _agreement(predicted: Any, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    kept = predicted >= 0
    queries = np.asarray(pairs.query_ids)[kept]
    return agreement(predicted[kept], np.asarray(pairs.grades)[kept], list(queries), seed)
