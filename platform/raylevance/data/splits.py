"""Splits of judgements by query: a query is on one side only, whatever its id, case and white space."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.hashing import hash_strings, hash_unit
from raylevance.data.id_rows import find_rows
from raylevance.data.schema import JUDGEMENTS
from raylevance.data.text import normalised_query
from raylevance.errors import RaylevanceError

NAMED_QUERIES = 3
"""How many queries an error message names."""


def split_by_query(judgements: pa.Table, queries: pa.Table, fractions: Mapping[str, float], seed: int = 0) -> pa.Table:
    """Return `judgements` with a column `split`, drawn by query.

    `fractions` maps the name of each split to its share of the queries; the shares add up to 1. The split of a query
    is a hash of `seed` and its normalised text, so it does not change when data is added, and the shares hold on
    average only. Where the hashes leave a split empty, which happens with few queries, it gets the query whose hash is
    nearest to its range from a split that has more than one, as long as there is such a split (our choice).

    Raises `RaylevanceError` if the query of a judgement is not in `queries`.
    """
    assert abs(sum(fractions.values()) - 1) < 1e-9, f"the fractions add up to {sum(fractions.values())}, not to 1"
    codes = _split_of(hash_unit(_query_texts(judgements, queries), seed), list(fractions.values()))
    names = pa.array(list(fractions), pa.string())
    split = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), names).cast(pa.string())
    rows = judgements.drop_columns(["split"]) if "split" in judgements.column_names else judgements
    return rows.append_column(JUDGEMENTS.field("split"), split)


def assign_folds(queries: pa.Table, folds: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return the fold of each row of `queries` for k-fold cross-validation, int64 [n] in 0..folds-1.

    Distinct normalised texts are dealt out in the order of their hashes, so the sizes of folds differ by one text at
    most. Raises `RaylevanceError` if there are fewer distinct texts than folds.
    """
    distinct, text = np.unique(hash_strings(normalised_query(queries["query"]), seed), return_inverse=True)
    if len(distinct) < folds:
        raise RaylevanceError(f"{len(distinct)} different queries are too few for {folds} folds")
    return np.asarray(text % folds, np.int64)


def queries_of_split(judgements: pa.Table, queries: pa.Table, split: str) -> pa.Table:
    """Return the rows of `queries` that have a judgement in `split`.

    Raises `RaylevanceError` if no judgement is in the split.
    """
    query_ids = judgements.filter(pc.equal(judgements["split"], split))["query_id"]
    if not len(query_ids):
        present = ", ".join(sorted(filter(None, judgements["split"].unique().to_pylist()))) or "none"
        raise RaylevanceError(
            f"split {split!r} is empty: no judgement is in it (splits here: {present}); write {split} in the column "
            "split for all judgements of some queries, or import the judgements without splits to have them drawn"
        )
    return queries.filter(pc.is_in(queries["query_id"], query_ids.unique()))


def check_leakage(train: pa.Table, test: pa.Table, names: tuple[str, str] = ("training", "test")) -> None:
    """Raise `RaylevanceError` if a query is in both `train` and `test`, by its id or by its normalised text.

    `train` and `test` are the judged queries of each side (columns query_id and query, see `queries_of_split`).
    `names` is what the message calls the two sides. An empty side raises as well.
    """
    for side, name in zip((train, test), names, strict=True):
        if not side.num_rows:
            raise RaylevanceError(f"the {name} split is empty: it judges no query")
    same_id = pc.is_in(test["query_id"], train["query_id"].combine_chunks())
    same_text = pc.is_in(normalised_query(test["query"]), normalised_query(train["query"]).combine_chunks())
    leaked = test.filter(pc.or_(same_id, same_text)).sort_by("query_id").select(["query_id", "query"]).to_pylist()
    if leaked:
        examples = ", ".join(f"{row['query']!r} ({row['query_id']})" for row in leaked[:NAMED_QUERIES])
        raise RaylevanceError(
            f"leakage: {len(leaked)} of {test.num_rows} {names[1]} queries are judged in {names[0]} too, "
            f"such as {examples}; split by query"
        )


def _split_of(hashes: npt.NDArray[np.float64], shares: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return the number of the split of each hash, int64 [n] from hashes [n] in [0, 1)."""
    bounds = np.cumsum(shares)[:-1]
    distinct, text = np.unique(hashes, return_inverse=True)
    splits = np.searchsorted(bounds, distinct, side="right")
    for empty in [number for number, share in enumerate(shares) if share > 0 and number not in splits]:
        movable = np.flatnonzero(np.bincount(splits, minlength=len(shares))[splits] > 1)
        if len(movable):
            low, high = ([0.0, *bounds][empty], [*bounds, 1.0][empty])
            distances = np.maximum(low - distinct[movable], distinct[movable] - high)
            splits[movable[np.argmin(distances)]] = empty
    return np.asarray(splits[text], np.int64)


def _query_texts(judgements: pa.Table, queries: pa.Table) -> pa.ChunkedArray:
    """Return the normalised text of the query of each judgement."""
    query_rows = find_rows(judgements["query_id"], queries["query_id"])
    if query_rows.null_count:
        unknown = judgements["query_id"].filter(query_rows.is_null())[0].as_py()
        raise RaylevanceError(f"judgements of query {unknown!r}: no such query_id among the queries")
    return pc.take(normalised_query(queries["query"]), query_rows)
