"""Report how well each candidate judge agrees with people, on validation and test queries."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.evaluation.agreement import accuracy_by_coverage, agreement_by_slice, agreement_with_people, calibration
from raylevance.index.fusion import FusionSettings
from raylevance.inference.encoder import NamedEncoder, backbone_digest, backbone_path
from raylevance.inference.judge import load as load_judge
from raylevance.judges.labelling import label_table
from workloads.readable import with_interval
from workloads.run import Run
from workloads.steps.judge_data import JudgeData
from workloads.steps.judge_worth import judge_worth
from workloads.steps.match_judge import OUT_OF_FOLD, WORTH
from workloads.steps.report_outcome import ReportOutcome

SHOWN = ("accuracy", "within_1", "macro_f1", "kappa", "quadratic_kappa")
HALF = 0.5


class JudgeOutcome(ReportOutcome):
    """The report of a run of the recipe judge."""

    def as_json(self) -> dict[str, Any]:
        """Return the place of the report, the references of all artifacts, and the figures of the report."""
        return {"report": str(self.run.store.path(self.report.ref)), **super().as_json()}

    def as_table(self) -> Table:
        """Return one row for each judge: agreement on test pairs, and accuracy on the half it is surest of."""
        metrics = self.report.metrics
        title = f"{metrics['pairs']} pairs of {metrics['queries']} test queries of {metrics['data']}"
        table = Table(
            "", *SHOWN, "accuracy at half coverage", "gain of nDCG@10", "AUC", box=None, pad_edge=False, title=title
        )
        table.title_justify = "left"
        for name, measured in metrics["judges"].items():
            test = measured["test"]
            cells = [with_interval([test[key], *test["ci95"][key]]) for key in SHOWN]
            half = next(row for row in measured["coverage"] if row["coverage"] <= HALF)
            worth = measured.get("test_worth")
            gain = "{:+.3f} [{:.3f}, {:.3f}]".format(*worth["gain"]) if worth else ""
            area = f"{worth['auc']:.3f}" if worth and worth["auc"] is not None else ""
            table.add_row(name, *cells, f"{half['accuracy']:.3f}", gain, area)
        table.caption, table.caption_justify = f"report: {self.run.store.path(self.report.ref)}", "left"
        return table


def report_step(data: JudgeData, test: JudgedTables, candidates: Mapping[str, Artifact], backbone: str) -> Artifact:
    """Return `report/judge`: the agreement of every candidate, and of always giving the most frequent training grade.

    A candidate grades as it would in a labelling run. Its agreement under `validation`, by which the best is chosen,
    and its `worth` are out of fold where they were measured so, otherwise on the validation queries. `test_worth` is
    that on test queries. The hybrid search of both has the untrained `backbone`.
    """
    run, seed = data.run, data.trainer.seed

    def build(draft: Draft) -> None:
        pairs = GradedPairs.from_tables(test, data.text)
        encoder = NamedEncoder(backbone_path(backbone), None, None)
        majority = int(np.bincount(data.train.grades).argmax())
        certain = np.ones(len(pairs.grades))
        judges = {"majority": measure(np.full(len(pairs.grades), majority), certain, pairs, seed)}
        for name, judge in candidates.items():
            judges[name] = measure(*grade(run, judge, pairs), pairs, seed)
            judges[name]["validation"] = judge.metrics.get(OUT_OF_FOLD) or agreement_on_validation(data, judge, seed)
            loaded = load_judge(run.store, judge.ref)
            asked = {WORTH: data.held_out, "test_worth": test} if WORTH not in judge.metrics else {"test_worth": test}
            judges[name] |= {
                key: judge_worth(run, loaded, part, encoder, data.text, seed) for key, part in asked.items()
            }
            judges[name].setdefault(WORTH, judge.metrics.get(WORTH))
        draft.metrics |= {
            "data": data.tables.name.partition("/")[2],
            "queries": len(set(pairs.query_ids)),
            "pairs": len(pairs.grades),
            "seed": seed,
            "judges": judges,
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    inputs = [data.tables, *candidates.values()]
    return run.step(
        "report/judge",
        build,
        settings={
            "text": data.text,
            "validation": fingerprint(data.validation.query_ids),
            "backbone": backbone_digest(backbone),
            "search": FusionSettings(),
        },
        inputs=inputs,
        seed=seed,
    )


def agreement_on_validation(data: JudgeData, judge: Artifact, seed: int) -> dict[str, Any]:
    """Return the agreement of a judge on the validation queries, which it did not learn from, and their number."""
    grades, _ = grade(data.run, judge, data.validation)
    return _agreement(grades, data.validation, seed) | {"queries": len(set(data.validation.query_ids))}


def grade(run: Run, judge: Artifact, pairs: GradedPairs) -> tuple[Any, Any]:
    """Return the grades and confidences [n] that the judge gives to `pairs`, as `raylevance label` gives them.

    A pair that it can't judge has the grade -1.
    """
    asked = pa.table({"query": pairs.queries, "product_text": pairs.texts})
    labels = label_table(asked, load_judge(run.store, judge.ref).labelling, run.store)
    return labels["grade"].fill_null(-1).to_numpy(), labels["confidence"].fill_null(0.0).to_numpy()


def measure(predicted: Any, confidence: Any, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    """Compare grades and their confidences [n] with the human grades of `pairs`: agreement, coverage, calibration."""
    kept = predicted >= 0
    grades, human = predicted[kept], np.asarray(pairs.grades)[kept]
    words = [f"{min(len(query.split()), 6)} words" for query in np.asarray(pairs.queries)[kept]]
    return {
        "test": _agreement(predicted, pairs, seed),
        "not_judged": int((~kept).sum()),
        "coverage": accuracy_by_coverage(grades, human, confidence[kept]),
        "calibration": calibration(grades, human, confidence[kept]),
        "by_category": agreement_by_slice(grades, human, list(np.asarray(pairs.categories)[kept])),
        "by_query_length": agreement_by_slice(grades, human, words),
    }


def _agreement(predicted: Any, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    kept = predicted >= 0
    queries = np.asarray(pairs.query_ids)[kept]
    return agreement_with_people(predicted[kept], np.asarray(pairs.grades)[kept], list(queries), seed)
