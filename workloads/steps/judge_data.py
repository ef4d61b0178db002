"""The graded pairs that the candidates of the recipe `judge` learn from and are measured on."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from raylevance.artifacts import Artifact
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText, query_key
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError
from raylevance.judges.gate import human_grades
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.encoder_training import Trainer

ESCI_RELEVANCE = {"0": 0, "1": 1, "2": 1, "3": 2}
"""The grades of a column `relevance`, where E, S, C and I are 3, 2, 1 and 0."""


@dataclass(frozen=True)
class JudgeData:
    """Pairs that people judged, split by query."""

    run: Run
    tables: Artifact
    learnable: JudgedTables
    """The queries of `train` and `validation`."""
    held_out: JudgedTables
    """The queries of `validation`."""
    train: GradedPairs
    """The pairs that the candidates learn from."""
    validation: GradedPairs
    """The pairs that pick the best step of a candidate that is trained in steps, and measure it."""
    further: GradedPairs
    """Pairs of other queries that the candidates also learn from, with product texts as they are."""
    text: ProductText
    trainer: Trainer


NO_PAIRS = GradedPairs([], [], [], [], [], [])


def read_graded_pairs(file: Path, known_queries: pa.ChunkedArray) -> GradedPairs:
    """Read pairs that people graded: query, product_text, and grade (0 to 2) or relevance (ESCI's 0 to 3).

    Pairs whose query is among `known_queries`, compared as normalised texts, are left out, because it may be tested on;
    so are those without a query, text or grade. Both are counted. The id of a query is that of its text.

    Raises `RaylevanceError` if the file can't be read, has no such columns, or holds another grade.
    """
    table = read_table(file, ["query", "product_text"])
    if "grade" in table.column_names:
        grades = human_grades(table["grade"], file)
    elif "relevance" in table.column_names:
        grades = _esci_grades(table["relevance"], file)
    else:
        raise RaylevanceError(f"{file}: no column 'grade' (0 to 2) or 'relevance' (0 to 3)")
    queries, texts = (table[name].cast(pa.string()) for name in ("query", "product_text"))
    keys = query_key(queries)
    known = pc.is_in(keys, pc.unique(query_key(known_queries)))
    whole = pc.and_(pc.and_(queries.is_valid(), texts.is_valid()), grades.is_valid())
    kept = pc.and_(whole, pc.invert(known))
    if left := table.num_rows - pc.sum(kept).as_py():
        of_known = pc.sum(pc.and_(whole, known)).as_py()
        status(
            f"{file}: {left} pairs left out: {of_known} of queries that are judged in the tables, the others not whole"
        )
    ids, query_texts, product_texts, known_grades = (
        column.filter(kept).to_pylist() for column in (keys, queries, texts, grades)
    )
    none = [""] * len(ids)
    return GradedPairs(ids, none, query_texts, product_texts, known_grades, none)


def _esci_grades(values: pa.ChunkedArray, file: Path) -> pa.Array:
    grades = [None if value is None else ESCI_RELEVANCE.get(str(value), -1) for value in values.to_pylist()]
    if -1 in grades:
        row = grades.index(-1)
        raise RaylevanceError(f"{file}: row {row + 1}: relevance is {values[row]}, expected 0, 1, 2 or 3")
    return pa.array(grades, pa.int8())
