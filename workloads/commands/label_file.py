"""Label a file of pairs by a judge, after checking how well it agrees with people."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.artifacts import Store, fingerprint
from raylevance.cluster import connected
from raylevance.data.schema import GRADES
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError
from raylevance.evaluation.agreement import agreement
from raylevance.inference.judge import find_judge
from raylevance.judges.labelling import JUDGED, Labelling, Summary, label_pairs
from raylevance.llm.backends import open_ledger
from raylevance.llm.ledger import Ledger
from raylevance.progress import progress_bar
from workloads.run import exclusive
from workloads.steps.labelling import label_table


def label_file(
    judge: str,
    store: str,
    pairs: Path,
    output: Path,
    *,
    threshold: float | None = None,
    minimum_kappa: float | None = None,
    check: Path | None = None,
    price_per_hour: float | None = None,
) -> dict[str, Any]:
    """Write `pairs` with their labels to `output` and return a summary.

    The pairs in the file `check` have a human `grade` and are judged first. Raises `RaylevanceError` when the quadratic
    kappa of the judge, on `check` or as it was published, is below `minimum_kappa` or unknown.
    """
    opened = Store(store)
    named = find_judge(judge, opened)
    labelling = named.labelling if threshold is None else named.labelling._replace(threshold=threshold)
    key = f"label-{fingerprint(labelling.version, str(pairs.absolute()))}"
    with connected(), open_ledger(opened) as ledger, exclusive(opened, key, f"labels of {pairs}"):
        work = opened.work_folder(key)
        known = named.agreement
        if check:
            known = check_agreement(check, labelling, opened)
        if minimum_kappa is not None:
            _refuse_below(minimum_kappa, known, judge)
        started = time.monotonic()
        summary = _with_progress(pairs, output, labelling, ledger, work, price_per_hour)
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - started
    described = {"output": str(output), "judge": labelling.version, **summary._asdict(), "seconds": round(seconds, 1)}
    return described | ({"agreement": known} if known else {})


def check_agreement(pairs: Path, labelling: Labelling, store: Store) -> dict[str, Any]:
    """Return the agreement of the judge with the column `grade` of `pairs`, over the pairs that it judged.

    Pairs without a grade are left out. Raises `RaylevanceError` for a grade other than 0, 1 or 2.
    """
    table = read_table(pairs, ["query", "product_text", "grade"])
    table = table.set_column(table.column_names.index("grade"), "grade", _grades(table["grade"], pairs))
    labels = label_table(table.select(["query", "product_text"]), labelling, store)
    kept = pc.and_(pc.equal(labels["status"], JUDGED), table["grade"].is_valid())
    human, predicted = table.filter(kept), labels.filter(kept)
    return agreement(predicted["grade"].to_numpy(), human["grade"].to_numpy(), human["query"].to_pylist())


def _grades(values: pa.ChunkedArray, file: Path) -> pa.ChunkedArray:
    try:
        grades = values.cast(pa.int8())
    except pa.ArrowException:
        raise RaylevanceError(f"{file}: column 'grade' holds {values.type}, expected 0, 1 or 2") from None
    bad = pc.and_(grades.is_valid(), pc.invert(pc.is_in(grades, pa.array(GRADES, pa.int8()))))
    rows = np.flatnonzero(bad.to_numpy())
    if len(rows):
        raise RaylevanceError(f"{file}: row {rows[0] + 1}: grade is {grades[int(rows[0])]}, expected 0, 1 or 2")
    return grades


def _refuse_below(minimum: float, known: dict[str, Any] | None, judge: str) -> None:
    if known is None:
        raise RaylevanceError(f"{judge}: its agreement with people is not known; give --check with human grades")
    if known["quadratic_kappa"] < minimum:
        raise RaylevanceError(
            f"{judge}: quadratic kappa {known['quadratic_kappa']:.3f} on {known['pairs']} pairs is below the gate of "
            f"{minimum}; nothing was labelled"
        )


def _with_progress(
    pairs: Path, output: Path, labelling: Labelling, ledger: Ledger, work: Path, price_per_hour: float | None
) -> Summary:
    """Run `label_pairs` with a progress bar: tokens per second, and the cost of a million pairs at this speed."""
    with progress_bar("labelling", "pairs") as bar:
        tokens, started = 0, time.monotonic()

        def answered(pairs: int, read: int) -> None:
            nonlocal tokens
            tokens += read
            seconds = time.monotonic() - started
            details = f"{tokens / seconds:.0f} tokens/s"
            if price_per_hour is not None:
                details += f", cost/M pairs {1e6 * seconds / (bar.completed + pairs) * price_per_hour / 3600:.2f}"
            bar.advance(pairs, details)

        def starts(missing: int) -> None:
            nonlocal started
            started = time.monotonic()
            bar.restart(missing)

        return label_pairs(pairs, output, labelling, ledger, work, answered, starts)
