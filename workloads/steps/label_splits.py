"""Which labelled queries are tested on, which choose steps and thresholds, and which are learned from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.hashing import hash_strings, hash_unit
from raylevance.data.judged_tables import TEST, TRAIN, VALIDATION, JudgedTables
from raylevance.data.label_space import LabelSpace
from raylevance.data.query_labels import QUERY_LABELS, labels_of_judgements, merge_query_labels
from raylevance.data.text import normalised_query
from raylevance.errors import RaylevanceError, UsageError
from raylevance.progress import status

FEWEST_FOR_VALIDATION, MOST_FOR_VALIDATION = 200, 5_000
"""A task with fewer judged, clicked and own queries for validation takes spans of titles too; more queries do not tell
more (our choice)."""
WITHOUT_QUERIES = {
    VALIDATION: "its thresholds are 0.5, and it has no semi-supervised labels",
    TEST: "the report leaves it out",
}


@dataclass(frozen=True)
class Fold:
    """The part `number` of `count` of the labelled queries, which a cross-validation tests on."""

    number: int
    count: int
    test_split: bool
    """Whether the queries of the data's test split are among them. Otherwise no fold tests on or learns from them."""


def test_queries(
    judged: JudgedTables, own: pa.Table | None, space: LabelSpace, share: float, seed: int, fold: Fold | None
) -> tuple[pa.Table, pa.Array]:
    """Return the queries to test on, in `QUERY_LABELS`, and the normalised texts that nothing may be learned from.

    These are the judged queries of the test split, or without one the share `share` of the queries `own`, which have
    labels of a file, drawn by hash. With `fold`, they are its part of all judged and own queries.
    """
    has_split = pc.any(pc.equal(judged.judgements["split"], TEST)).as_py()
    if fold is None and not has_split:
        rows = QUERY_LABELS.empty_table() if own is None else own
        texts = pc.unique(rows["query"])
        texts = texts.filter(pa.array(hash_unit(texts, seed, "test") < share))
        return rows.filter(pc.is_in(rows["query"], texts)), texts
    fenced = pa.array([], pa.string())
    if has_split:
        fenced = pc.unique(normalised_query(judged.split(TEST).queries["query"]))
    if fold is None:
        return labels_of_judgements(judged.split(TEST), space), fenced
    parts = [labels_of_judgements(judged, space)] if judged.judgements.num_rows else []
    rows, _ = merge_query_labels([*parts, *([] if own is None else [own])])
    if fold.test_split:
        fenced = fenced[:0]
    rows = rows.filter(pc.invert(pc.is_in(rows["query"], fenced)))
    texts = pc.unique(rows["query"])
    if len(texts) < fold.count:
        raise RaylevanceError(f"{len(texts)} labelled queries are too few for {fold.count} folds")
    places = np.argsort(np.argsort(hash_strings(texts, seed, "fold"), kind="stable"), kind="stable")
    texts = texts.filter(pa.array(places % fold.count == fold.number))
    return rows.filter(pc.is_in(rows["query"], texts)), pa.concat_arrays([texts, fenced])


def validation_queries(
    rows: pa.Table, judged: JudgedTables, held_out: pa.Array, fraction: float, seed: int
) -> pa.Array:
    """Return the texts of those of the labelled queries `rows` that choose the best step, tau and thresholds.

    Judged queries are chosen by the data's own validation split or by a hash, other queries by a hash. Those of the
    data's split are all among them, and of the others as many as make `MOST_FOR_VALIDATION` together.
    """
    texts = pc.unique(rows["query"])
    usable = pc.invert(pc.is_in(normalised_query(judged.queries["query"]), held_out))
    ids = judged.queries["query_id"].filter(usable)
    judgements = judged.judgements.filter(pc.is_in(judged.judgements["query_id"], ids.combine_chunks()))
    chosen_judged = pa.array([], pa.string())
    is_judged = np.zeros(len(texts), bool)
    learnable = replace(judged, judgements=judgements).without_unjudged_queries()
    judged_texts = normalised_query(learnable.queries["query"]).combine_chunks()
    # One judged query alone can't be divided; it goes where its hash puts it.
    if pc.count_distinct(judged_texts).as_py() > 1:
        chosen_judged = normalised_query(_chosen(learnable, fraction, seed).queries["query"]).combine_chunks()
        is_judged = pc.is_in(texts, judged_texts).to_numpy(False)
    is_chosen = pc.is_in(texts, chosen_judged).to_numpy(False)
    is_given = is_chosen & _has_validation_split(learnable)
    drawn = (hash_unit(texts, seed, "validation") < fraction) & ~is_judged | is_chosen & ~is_given
    order = np.argsort(hash_unit(texts, seed, "order"), kind="stable")
    given, drawn_first = order[is_given[order]], order[drawn[order]]
    return texts.take(pa.array([*given, *drawn_first[: max(0, MOST_FOR_VALIDATION - len(given))]], pa.int64()))


def _has_validation_split(judged: JudgedTables) -> bool:
    return bool(pc.any(pc.equal(judged.judgements["split"], VALIDATION)).as_py())


def _chosen(judged: JudgedTables, fraction: float, seed: int) -> JudgedTables:
    """Return the judged queries for validation, none of which is held out."""
    if _has_validation_split(judged):
        return judged.split(VALIDATION)
    column = judged.judgements.column_names.index("split")
    split = pa.repeat(pa.scalar(TRAIN), judged.judgements.num_rows)
    judgements = judged.judgements.set_column(column, "split", split)
    return replace(judged, judgements=judgements).split_off_validation(TRAIN, fraction, seed)[1]


def queries_lacking(rows: pa.Table, space: LabelSpace, validating: pa.Array) -> dict[str, int]:
    """Return how many queries the validation of each task lacks to have `FEWEST_FOR_VALIDATION`."""
    chosen = rows.filter(pc.is_in(rows["query"], validating))
    queries = chosen.group_by(["task", "query"]).aggregate([])["task"]
    counts = (pc.sum(pc.equal(queries, task)).as_py() or 0 for task in space.tasks)
    return {task: max(0, FEWEST_FOR_VALIDATION - count) for task, count in zip(space.tasks, counts, strict=True)}


def check_splits(space: LabelSpace, splits: Mapping[str, pa.Table]) -> int:
    """Return how many predicted labels no training query has, and name their number in a status line.

    A task without a validation or test query is named in one too.

    Raises `UsageError` for a split without a labelled query, for a task that no training query has labels of, and for
    one with a single label to predict.
    """
    cures = {
        "train": "give another of sources a weight",
        VALIDATION: "raise validation_fraction, or sources.titles above 0",
        TEST: "judge test queries whose relevant products have a label, or raise test_fraction of sources.file",
    }
    for name, rows in splits.items():
        if not rows.num_rows:
            raise UsageError(f"no {name} query has a label; {cures[name]}")
    labels = splits["train"]["labels"].combine_chunks().flatten().to_numpy()
    counts = np.bincount(labels, minlength=len(space))
    for task in space.tasks:
        if space.predicted[space.rows(task)].sum() == 1:
            raise UsageError(f"task {task!r}: has only one label to predict; leave it out of labels")
        if not counts[space.rows(task)].any():
            raise UsageError(f"task {task!r}: no training query has one of its labels; leave it out of labels")
        for split, what in WITHOUT_QUERIES.items():
            if not pc.any(pc.equal(splits[split]["task"], task)).as_py():
                status(f"task {task!r}: no {split} query has one of its labels, so {what}")
    missing = int((space.predicted & (counts == 0)).sum())
    if missing:
        status(f"{missing} labels are in no training query; only their texts and the graph speak for them")
    return missing
