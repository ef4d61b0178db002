"""Read files of queries with their labels, for training and for evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.conversions import ID, TEXT
from raylevance.data.file_columns import file_column
from raylevance.data.label_space import LabelSpace
from raylevance.data.normal_form import normal_form, normal_form_column
from raylevance.data.query_labels import QUERY_LABELS, rows_of_labels
from raylevance.data.text import normalised_query
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError, first_quoted, nearest
from raylevance.progress import status

OWN = "file"
"""The `source` of labels from a file."""


class LabelledQueries(NamedTuple):
    """The queries of a file that have labels."""

    queries: pa.Array
    """Their texts as they are, string [n]."""
    labels: pa.Array
    """Lists of label ids [n], none of them null or empty."""
    without_labels: int
    """How many further queries have no label."""


def read_labelled_queries(file: Path) -> LabelledQueries:
    """Read the columns query and labels of `file`, in Parquet or JSON Lines.

    Rows with an empty list of labels are left out, counted and named in a status line.

    Raises `RaylevanceError` if the file or a column can't be read, if a query has no text, if labels are null or no
    lists, or if no row has labels.
    """
    table = read_table(file, ("query", "labels"))
    queries = file_column(file, table, "query", TEXT, required=False)
    _refuse_first(file, pc.equal(normal_form_column(queries.fill_null("")), ""), "query has no text; remove the row")
    lists = _label_lists(file, table["labels"])
    empty = pc.equal(pc.list_value_length(lists), 0)
    without = int(pc.sum(empty).as_py() or 0)
    if without:
        first = int(np.flatnonzero(empty.to_numpy(zero_copy_only=False))[0]) + 1
        status(f"{file}: {without} of {len(lists)} rows have no labels and are left out; the first is row {first}")
    if without == len(lists):
        raise RaylevanceError(f"{file}: no row has labels; give the ids of each query's labels")
    measured = pc.invert(empty)
    return LabelledQueries(queries.filter(measured), lists.filter(measured), without)


def labels_of_file(file: Path, space: LabelSpace) -> pa.Table:
    """Return the queries of `file` with their labels in `space`, in `QUERY_LABELS`, with the weight and target 1.

    A label id stands for the labels of every task that has it, as `places_of_labels` finds them. Ids that no task
    predicts are counted and named in a status line, with the number of queries that have no other.

    Raises `RaylevanceError` as `read_labelled_queries`, and if no id is among the labels of `space`.
    """
    rows = read_labelled_queries(file)
    encoded, row_of_id = rows.labels.flatten().dictionary_encode(), rows.labels.value_parent_indices()
    ids, id_of_row = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    texts = normalised_query(rows.queries).take(row_of_id)
    found = [QUERY_LABELS.empty_table()]
    known = np.zeros(len(id_of_row), bool)
    for task in space.tasks:
        span = space.rows(task)
        predicted = np.flatnonzero(space.predicted[span]) + span.start
        places = places_of_labels(ids, [space.label_ids[label] for label in predicted])[id_of_row]
        given = places >= 0
        known |= given
        if given.any():
            labels = predicted[places[given]]
            found.append(rows_of_labels(texts.filter(pa.array(given)), labels, space, OWN, 1.0))
    if not known.all():
        unknown = [ids[place] for place in np.unique(id_of_row[~known])]
        if not known.any():
            raise RaylevanceError(f"{file}: none of its labels is predicted; {nearest(unknown[0], space.label_ids)}")
        lost = len(rows.queries) - len(np.unique(row_of_id.to_numpy()[known]))
        status(
            f"{file}: {len(unknown)} labels are none that a task predicts, and are left out, with {lost} of "
            f"{len(rows.queries)} queries, which have no other: {first_quoted(unknown)}"
        )
    return pa.concat_tables(found)


def places_of_labels(ids: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the place of each of `ids` in `known`, int64 [ids], -1 for none.

    An id is found as it is, or else by the one label whose id differs in case or spacing alone.
    """
    place_of = {label: place for place, label in enumerate(known)}
    forms: dict[str, int] = {}
    for place, label in enumerate(known):
        form = normal_form(label)
        forms[form] = -1 if form in forms else place
    places = (place_of.get(label, forms.get(normal_form(label), -1)) for label in ids)
    return np.fromiter(places, np.int64, len(ids))


def _label_lists(file: Path, column: pa.ChunkedArray) -> pa.Array:
    """Return the lists of labels as lists of ids. Raises `RaylevanceError` for the first that is null or not one."""
    kind = column.type
    if pa.types.is_null(kind):
        raise RaylevanceError(f"{file}: row 1: labels is null; give a list of label ids")
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        advice = 'give a list of label ids, in Parquet or in JSON Lines such as {"query": "kettle", "labels": ["Home"]}'
        raise RaylevanceError(f"{file}: column 'labels' holds {kind}, not lists; {advice}")
    lists = column.combine_chunks()
    _refuse_first(file, lists.is_null(), "labels is null; give a list of label ids, which may be empty")
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    ids, faults = ID.convert(pc.list_flatten(lists))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    missing = np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False))
    if len(missing):
        row, reason = int(np.searchsorted(ends, missing[0], side="right")), faults[int(missing[0])].as_py()
        raise RaylevanceError(f"{file}: row {row}: labels has one that {reason or 'is null or empty; remove it'}")
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), ids)


def _refuse_first(file: Path, bad: pa.Array, fault: str) -> None:
    rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
    if len(rows):
        raise RaylevanceError(f"{file}: row {rows[0] + 1}: {fault}")
