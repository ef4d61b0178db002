"""Label a file of pairs by a judge, after checking how well it agrees with people."""

import shutil
import time
from pathlib import Path
from typing import Any

from raylevance.artifacts import Store, fingerprint
from raylevance.cluster import connected
from raylevance.inference.judge import load as load_judge
from raylevance.judges.gate import measure_agreement, read_graded_pairs, require_kappa
from raylevance.judges.labelling import Labelling, LabellingSummary, check_pairs, label_pairs
from raylevance.llm.backends import open_ledger
from raylevance.llm.ledger import Ledger
from raylevance.progress import progress_bar
from workloads.run import check_shared_store, exclusive


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

    The pairs in the file `check` have a human `grade` and are judged first. Both files are checked before Ray starts.
    Raises `RaylevanceError` when the quadratic kappa of the judge, on `check` or as it was published, is below
    `minimum_kappa` or unknown.
    """
    check_pairs(pairs)
    if check:
        read_graded_pairs(check)
    opened = Store(store)
    named = load_judge(opened, judge)
    labelling = named.labelling if threshold is None else named.labelling._replace(threshold=threshold)
    key = f"label-{fingerprint(labelling.version, str(pairs.absolute()))}"
    with connected(), open_ledger(opened) as ledger, exclusive(opened, key, f"labels of {pairs}"):
        check_shared_store(opened)
        work = opened.work_folder(key)
        known = named.agreement
        if check:
            known = measure_agreement(check, labelling, opened)
        if minimum_kappa is not None:
            require_kappa(judge, minimum_kappa, known)
        started = time.monotonic()
        summary = _with_progress(pairs, output, labelling, ledger, work, price_per_hour)
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - started
    described = {"output": str(output), "judge": labelling.version, **summary._asdict(), "seconds": round(seconds, 1)}
    return described | ({"agreement": known} if known else {})


def _with_progress(
    pairs: Path, output: Path, labelling: Labelling, ledger: Ledger, work: Path, price_per_hour: float | None
) -> LabellingSummary:
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
