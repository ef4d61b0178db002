"""The agreement gate: labels of a judge are used only if it answers, and agrees enough with people."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.artifacts import Store
from raylevance.data.schema import GRADES
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError
from raylevance.evaluation.agreement import agreement_with_people
from raylevance.judges.labelling import JUDGED, QUARANTINED, Labelling, label_table


def require_answers(labels: pa.Table, labelling: Labelling) -> None:
    """Raise `RaylevanceError` if more than half of the rows of `LABELS` are quarantined.

    An artifact made from the other rows would be kept, although the failure may be temporary.
    """
    failed = labels.filter(pc.equal(labels["status"], QUARANTINED))
    if failed.num_rows > labels.num_rows / 2:
        raise RaylevanceError(
            f"judge {labelling.version}: no grade for {failed.num_rows} of {labels.num_rows} pairs "
            f"({failed['reason'][0]}): fix this and run the same command again, the other answers are stored"
        )


def require_kappa(judge: str, minimum_kappa: float, measured: dict[str, Any] | None) -> None:
    """Raise `RaylevanceError` if the quadratic kappa of a judge is unknown or below a minimum.

    `measured` is what `evaluation.agreement.agreement_with_people` returns, or None where it is not known.
    """
    if measured is None:
        raise RaylevanceError(
            f"{judge}: its agreement with people is not known; give human grades to check it on (--check)"
        )
    kappa, pairs = measured["quadratic_kappa"], measured["pairs"]
    if kappa < minimum_kappa:
        raise RaylevanceError(
            f"{judge}: quadratic kappa {kappa:.3f} on {pairs} pairs is below the gate of {minimum_kappa}; "
            "nothing was labelled"
        )


def compare_with_people(
    labels: pa.Table, human: pa.Table, minimum_kappa: float, published: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Measure a judge on pairs that people graded, and decide whether its labels can be trained on.

    `labels` are rows of `LABELS` for the rows of `human` (columns query_id and grade). `published` is the judge's
    agreement on queries held out of its training, where known. It must reach `minimum_kappa` too, because a judge
    agrees best on the queries that it was trained on.

    Returns `agreement` (None if the judge graded no pair) and `trusted`.
    """
    graded = labels["grade"].is_valid()
    if not pc.any(graded).as_py():
        return {"agreement": None, "trusted": False}
    predicted, human = labels.filter(graded)["grade"].to_numpy(), human.filter(graded)
    measured = agreement_with_people(predicted, human["grade"].to_numpy(), human["query_id"].to_pylist())
    kappas = [agreed["quadratic_kappa"] for agreed in (measured, published) if agreed]
    return {"agreement": measured, "trusted": min(kappas) >= minimum_kappa}


def measure_agreement(pairs: Path, labelling: Labelling, store: Store) -> dict[str, Any]:
    """Return the judge's agreement with a file of human grades, over the pairs that it judged.

    `pairs` has the columns query, product_text and grade; rows with a null grade are left out. The answers are stored
    in the ledger of `store`.
    Raises `RaylevanceError` if the file can't be read, or a grade is not 0, 1 or 2.
    """
    table = read_graded_pairs(pairs)
    labels = label_table(table.select(["query", "product_text"]), labelling, store)
    comparable = pc.and_(pc.equal(labels["status"], JUDGED), table["grade"].is_valid())
    human, predicted = table.filter(comparable), labels.filter(comparable)
    return agreement_with_people(predicted["grade"].to_numpy(), human["grade"].to_numpy(), human["query"].to_pylist())


def read_graded_pairs(file: Path) -> pa.Table:
    """Return the pairs of a file with human grades, int8 in the column grade. Raises as `measure_agreement` does."""
    table = read_table(file, ["query", "product_text", "grade"])
    return table.set_column(table.column_names.index("grade"), "grade", human_grades(table["grade"], file))


def human_grades(values: pa.ChunkedArray, file: Path) -> pa.ChunkedArray:
    """Return the column `grade` of `file` as int8. Raises `RaylevanceError` for a value other than 0, 1, 2 or null."""
    try:
        grades = values.cast(pa.int8())
    except pa.ArrowException:
        raise RaylevanceError(f"{file}: column 'grade' holds {values.type}, expected 0, 1 or 2") from None
    bad = pc.and_(grades.is_valid(), pc.invert(pc.is_in(grades, pa.array(GRADES, pa.int8()))))
    rows = np.flatnonzero(bad.to_numpy())
    if len(rows):
        raise RaylevanceError(f"{file}: row {rows[0] + 1}: grade is {grades[int(rows[0])]}, expected 0, 1 or 2")
    return grades
