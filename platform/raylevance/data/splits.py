"""Splits of judgements that keep a query, whatever its id, case and white space, on one side.

Each is a function of tables; `split_rows` applies the hashed ones to more judgements than fit into memory.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.buckets import bucket_count, join_buckets
from raylevance.data.hashing import hash_strings, hash_unit
from raylevance.data.schema import JUDGEMENTS, QUERIES
from raylevance.data.text import normalised_query
from raylevance.errors import RaylevanceError

NAMED = 3
"""How many queries an error names."""


def split_by_query(judgements: pa.Table, queries: pa.Table, fractions: Mapping[str, float], seed: int = 0) -> pa.Table:
    """`judgements` with `split` drawn from `fractions` (name -> share of the queries, adding up to 1).

    A query's split is a hash of `seed` and its normalised text, so it stays when data is added; the shares hold in
    expectation. Raises `RaylevanceError` for a judgement whose query is not in `queries`.
    """
    assert abs(sum(fractions.values()) - 1) < 1e-9, f"the fractions add up to {sum(fractions.values())}, not to 1"
    bounds = np.cumsum(list(fractions.values()))[:-1]
    codes = np.searchsorted(bounds, hash_unit(_texts(judgements, queries), seed), side="right")
    return _with_split(judgements, codes, list(fractions))


def split_by_novelty(
    judgements: pa.Table,
    queries: pa.Table,
    new_queries: float = 0.2,
    new_products: float = 0.5,
    in_domain: float = 0.1,
    seed: int = 0,
) -> pa.Table:
    """`judgements` with `split` one of train, in_domain, new_query, new_product, both_new.

    The four evaluation sets of Marqo-GS-10M (arXiv 2404.08535), which calls them in-domain, novel query, novel document
    and zero-shot and holds out 20% of the queries and 50% of the documents. Its in-domain set is the training set; ours
    is a share `in_domain` of the pairs whose query and product are both trained on, held out. By hash, as
    `split_by_query`, and raises what it raises.
    """
    query = hash_unit(_texts(judgements, queries), seed) < new_queries
    product = hash_unit(judgements["product_id"], seed + 1) < new_products
    pair = pc.binary_join_element_wise(judgements["query_id"], judgements["product_id"], "\n")
    held_out = hash_unit(pair, seed + 2) < in_domain
    codes = np.where(query | product, 1 + query + 2 * product, held_out)
    return _with_split(judgements, codes, ["train", "in_domain", "new_query", "new_product", "both_new"])


def split_rows(
    judgements: ray.data.Dataset, queries: ray.data.Dataset, split: Callable[[pa.Table, pa.Table], pa.Table]
) -> ray.data.Dataset:
    """`split`, a `functools.partial` of `split_by_query` or `split_by_novelty`, applied to a bucket at a time."""

    def split_in_order(judged: pa.Table, their_queries: pa.Table) -> pa.Table:
        return split(judged.sort_by([("query_id", "ascending"), ("product_id", "ascending")]), their_queries)

    buckets = bucket_count(judgements, queries)
    return join_buckets(judgements, queries, "query_id", split_in_order, (JUDGEMENTS, QUERIES), buckets)


def folds_by_query(queries: pa.Table, folds: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """The fold of each row of `queries`, int64 [n] in 0..folds-1, for k-fold cross-validation.

    Distinct normalised texts are dealt out in the order of their hashes, so folds differ by one text at most.
    """
    distinct, text = np.unique(hash_strings(normalised_query(queries["query"]), seed), return_inverse=True)
    if len(distinct) < folds:
        raise RaylevanceError(f"{len(distinct)} different queries are too few for {folds} folds")
    return np.asarray(text % folds, np.int64)


def queries_of(judgements: pa.Table, queries: pa.Table, split: str) -> pa.Table:
    """The rows of `queries` that `split` judges. Raises `RaylevanceError` where it judges none."""
    judged = judgements.filter(pc.equal(judgements["split"], split))["query_id"]
    if not len(judged):
        there = ", ".join(sorted(filter(None, judgements["split"].unique().to_pylist()))) or "none"
        raise RaylevanceError(f"split {split!r} is empty: no judgement is in it (splits here: {there})")
    return queries.filter(pc.is_in(queries["query_id"], judged.unique()))


def check_leakage(train: pa.Table, test: pa.Table, names: tuple[str, str] = ("training", "test")) -> None:
    """Raise `RaylevanceError` where a query is on both sides, by id or by normalised text; name some.

    `train`, `test`: the queries judged in each (columns query_id, query; see `queries_of`); messages call them `names`.
    """
    for side, name in zip((train, test), names, strict=True):
        if not side.num_rows:
            raise RaylevanceError(f"the {name} split is empty: it judges no query")
    same_id = pc.is_in(test["query_id"], train["query_id"].combine_chunks())
    same_text = pc.is_in(normalised_query(test["query"]), normalised_query(train["query"]).combine_chunks())
    leaked = test.filter(pc.or_(same_id, same_text)).sort_by("query_id").select(["query_id", "query"]).to_pylist()
    if leaked:
        some = ", ".join(f"{row['query']!r} ({row['query_id']})" for row in leaked[:NAMED])
        raise RaylevanceError(
            f"leakage: {len(leaked)} of {test.num_rows} {names[1]} queries are judged in {names[0]} too, "
            f"such as {some}; split by query"
        )


def _texts(judgements: pa.Table, queries: pa.Table) -> pa.ChunkedArray:
    """The normalised query text of each judgement."""
    found = pc.index_in(judgements["query_id"], queries["query_id"].combine_chunks())
    if found.null_count:
        unknown = judgements["query_id"].filter(found.is_null())[0].as_py()
        raise RaylevanceError(f"judgements of query {unknown!r}: no such query_id among the queries")
    return pc.take(normalised_query(queries["query"]), found)


def _with_split(judgements: pa.Table, codes: npt.NDArray[np.integer], names: list[str]) -> pa.Table:
    split = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string())).cast(pa.string())
    rows = judgements.drop_columns(["split"]) if "split" in judgements.column_names else judgements
    return rows.append_column(JUDGEMENTS.field("split"), split)
