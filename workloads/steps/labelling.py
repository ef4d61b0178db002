"""`raylevance label`: grades for any pairs, by a judge whose agreement with people is known."""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from raylevance.artifacts import Store, fingerprint
from raylevance.cluster import connected
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged import Judged
from raylevance.data.schema import GRADES
from raylevance.data.table_file import read_table
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.evaluation.agreement import agreement
from raylevance.inference.judge import NamedJudge, find_judge
from raylevance.judges.audit import REJUDGED
from raylevance.judges.labelling import JUDGED, QUARANTINED, Labelling, Summary, label_pairs
from raylevance.llm.backends import open_ledger
from raylevance.llm.ledger import Ledger
from workloads.run import Run, alone


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
    """Label `pairs` into `output`, and describe what was done.

    `check`: pairs with a human `grade`, judged first. Raises `RaylevanceError` where the judge's quadratic kappa, on
    `check` or else as it was published, is below `minimum_kappa` or not known.
    """
    opened = Store(store)
    named = find_judge(judge, opened)
    labelling = named.labelling if threshold is None else named.labelling._replace(threshold=threshold)
    key = f"label-{fingerprint(labelling.version, str(pairs.absolute()))}"
    with connected(), open_ledger(opened) as ledger, alone(opened, key, f"labels of {pairs}"):
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
    """The judge's agreement with the column `grade` of `pairs`, over the pairs it judged.

    Raises `RaylevanceError` for a grade that is none; a null one is left out.
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


def label_table(pairs: pa.Table, labelling: Labelling, store: Store) -> pa.Table:
    """`pairs` (query, product_text) with the columns `LABELS`, row by row; answers are kept in the store's ledger."""
    with tempfile.TemporaryDirectory() as folder, open_ledger(store) as ledger:
        asked, answered = Path(folder, "asked.parquet"), Path(folder, "answered.parquet")
        pq.write_table(pairs, asked)
        label_pairs(asked, answered, labelling, ledger, Path(folder))
        return pq.read_table(answered)


def judge_pairs(run: Run, judge: NamedJudge, judged: Judged, pairs: pa.Table, text: ProductText) -> pa.Table:
    """Rows of `REJUDGED` in the order of `pairs` (query_id, product_id), whose texts are in `judged`.

    Raises `RaylevanceError` where the judge failed with most of them.
    """
    labels = label_table(pair_texts(judged, pairs, judge.text or text), judge.labelling, run.store)
    refuse_failure(labels, judge.labelling)
    return labels.select(REJUDGED.names).cast(REJUDGED)


def refuse_failure(labels: pa.Table, judge: Labelling) -> None:
    """Raise `RaylevanceError` where most of `labels` failed: a step made of what is left would stay so."""
    failed = labels.filter(pc.equal(labels["status"], QUARANTINED))
    if failed.num_rows > labels.num_rows / 2:
        raise RaylevanceError(
            f"judge {judge.version}: no grade for {failed.num_rows} of {labels.num_rows} pairs "
            f"({failed['reason'][0]}); mend it and run the same command again: what it answered is kept"
        )


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
    """`label_pairs` with a bar on stderr: pairs and tokens a second, and what a million pairs cost at this speed."""
    with tqdm(desc="labelling", unit="pair", mininterval=0.5 if sys.stderr.isatty() else 15) as bar:
        tokens, started = 0, time.monotonic()

        def answered(pairs: int, read: int) -> None:
            nonlocal tokens
            tokens += read
            seconds = time.monotonic() - started
            shown = {"tokens/s": f"{tokens / seconds:.0f}"}
            if price_per_hour is not None:
                shown["cost/M pairs"] = f"{1e6 * seconds / (bar.n + pairs) * price_per_hour / 3600:.2f}"
            bar.set_postfix(shown, refresh=False)
            bar.update(pairs)

        def starts(missing: int) -> None:
            nonlocal started
            started = time.monotonic()
            bar.reset(missing)

        return label_pairs(pairs, output, labelling, ledger, work, answered, starts)
