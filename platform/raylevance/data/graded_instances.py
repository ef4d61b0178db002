"""Graded training instances: a query with its judged products and their grades.

Source: Mine and Refine (arXiv 2602.17654), section 4.1.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.data.checked_rows import FAULT
from raylevance.data.hash_buckets import bucket_count, join_buckets
from raylevance.data.hashing import hash_unit, pair_ids
from raylevance.data.id_rows import find_rows
from raylevance.data.parquet_parts import PartFiles, write_parts
from raylevance.data.spelling import VARIANT, SpellingSettings, add_misspelt_queries
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError

SCHEMA = pa.schema(
    {
        "query_id": pa.string(),
        "query": pa.string(),
        "items": pa.list_(pa.string()),
        "product_ids": pa.list_(pa.string()),
        "labels": pa.list_(pa.int8()),
    }
)
"""One instance a row. `items` are product texts and `labels` are their grades, highest first."""

JUDGEMENT_COLUMNS = pa.schema([("query_id", pa.string()), ("product_id", pa.string()), ("grade", pa.int8())])
ITEM_COLUMNS = pa.schema([("product_id", pa.string()), ("item", pa.string())])
JUDGED_ITEM_COLUMNS = JUDGEMENT_COLUMNS.append(pa.field("item", pa.string()))
QUERY_COLUMNS = pa.schema([("query_id", pa.string()), ("query", pa.string())])

ONE_GRADE = "all products have one grade"


class InstanceSettings(Settings):
    """How the judgements of a query become training instances."""

    max_items: int = Field(32, ge=4)
    """The most products in an instance. A query with more products becomes several instances (our choice)."""

    per_grade: PositiveInt | None = None
    """The most products that a query contributes for each grade, drawn by hash. None takes all products.

    With a limit, neither a query with many judgements nor a frequent grade outweighs the others. The paper samples in
    strata without further details.
    """


class InstanceSummary(NamedTuple):
    """The number of instances written, and of queries left out because all their products have one grade."""

    instances: int
    one_grade: int


def write_instances(
    judgements: ray.data.Dataset,
    queries: ray.data.Dataset,
    products: ray.data.Dataset,
    output: Path,
    text: ProductText,
    settings: InstanceSettings,
    spelling: SpellingSettings | None = None,
    seed: int = 0,
) -> InstanceSummary:
    """Write the instances of `judgements` to the folder `output`, as Parquet files of `SCHEMA`.

    An instance has products of two or three grades, in one of the four shapes (2, 1, 0), (2, 0), (1, 0) and (2, 1): a
    single grade does not say which product should come first. A judgement whose query or product is not given is left
    out. `spelling` says how misspelt variants of queries enter; None adds none. Its mode regularise adds the column
    `VARIANT`.

    Raises `RaylevanceError` if no query has products of two grades.
    """
    compose = functools.partial(_compose_items, text=text)
    items = products.map_batches(compose, batch_format="pyarrow", batch_size=None)
    buckets = bucket_count(judgements, products)
    schemas = (JUDGEMENT_COLUMNS, ITEM_COLUMNS)
    judged = join_buckets(judgements, items, "product_id", _with_item, schemas, buckets)
    group = functools.partial(group_instances, settings=settings, seed=seed)
    instances = join_buckets(judged, queries, "query_id", group, (JUDGED_ITEM_COLUMNS, QUERY_COLUMNS), buckets)
    if spelling and spelling.mode != "none":
        misspell = functools.partial(add_misspelt_queries, settings=spelling, seed=seed)
        instances = instances.map_batches(misspell, batch_format="pyarrow", batch_size=None)
    has_variants = spelling is not None and spelling.mode == "regularise"
    schema = SCHEMA.append(pa.field(VARIANT, pa.string())) if has_variants else SCHEMA
    written = write_parts(instances, PartFiles(output, schema))
    one_grade = written.bad_rows[ONE_GRADE]
    if not written.rows:
        raise RaylevanceError(f"no training instance: none of {one_grade} judged queries has products of two grades")
    return InstanceSummary(written.rows, one_grade)


def group_instances(judged: pa.Table, queries: pa.Table, settings: InstanceSettings, seed: int = 0) -> pa.Table:
    """Group `judged` (query_id, product_id, grade, item) into instances, in the order of their query ids.

    A query without an instance has one row whose column `checked_rows.FAULT` says why.
    """
    order = [("query_id", "ascending"), ("grade", "descending"), ("product_id", "ascending")]
    judged = judged.filter(pc.is_in(judged["query_id"], queries["query_id"].combine_chunks())).sort_by(order)
    if settings.per_grade:
        judged = sample_per_grade(judged, settings.per_grade, seed)
    grades = judged["grade"].to_numpy()
    ids = judged["query_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    chunks = [
        start + chunk
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)
        for chunk in chunk_by_grade(grades[start:end], settings.max_items)
    ]
    return _instances(judged, queries, chunks)


def sample_per_grade(judged: pa.Table, per_grade: int, seed: int) -> pa.Table:
    """Keep at most `per_grade` rows of each query and grade, chosen by a hash of the pair, in their order."""
    strata = pc.binary_join_element_wise(judged["query_id"], judged["grade"].cast(pa.string()), "\0")
    stratum = strata.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((hash_unit(pair_ids(judged), seed, "stratum"), stratum))
    starts = np.flatnonzero(np.diff(stratum[order], prepend=-1))
    rank_in_stratum = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return judged.take(pa.array(np.sort(order[rank_in_stratum < per_grade])))


def chunk_by_grade(grades: npt.NDArray[np.int8], max_items: int) -> list[npt.NDArray[np.int64]]:
    """Divide a query's products into chunks of at most `max_items` that contain every grade.

    `grades` [n] are sorted, highest first; the chunks are positions in it. There are as few chunks as possible. The
    items of each grade are dealt out in turn; a grade with fewer items than chunks has its items in several chunks.
    `max_items` must be larger than the number of grades.
    """
    groups = np.split(np.arange(len(grades)), np.flatnonzero(np.diff(grades)) + 1)
    count = -(-len(grades) // max_items)
    while sum(-(-len(group) // count) for group in groups) > max_items:
        count += 1
    return [
        np.concatenate(
            [group[chunk::count] if len(group) >= count else group[[chunk % len(group)]] for group in groups]
        )
        for chunk in range(count)
    ]


def _compose_items(products: pa.Table, text: ProductText) -> pa.Table:
    items = {"product_id": products["product_id"], "item": text.compose_column(products)}
    return pa.table(items).cast(ITEM_COLUMNS)


def _with_item(judgements: pa.Table, items: pa.Table) -> pa.Table:
    item_rows = find_rows(judgements["product_id"], items["product_id"])
    return judgements.append_column("item", items["item"].take(item_rows)).filter(item_rows.is_valid())


def _instances(judged: pa.Table, queries: pa.Table, chunks: list[npt.NDArray[np.int64]]) -> pa.Table:
    offsets = pa.array(np.cumsum([0, *map(len, chunks)]), pa.int32())
    rows = judged.take(np.concatenate([np.empty(0, np.int64), *chunks]))
    ids = rows["query_id"].take(offsets[:-1])
    lists = {
        name: pa.ListArray.from_arrays(offsets, rows[column].combine_chunks())
        for name, column in (("items", "item"), ("product_ids", "product_id"), ("labels", "grade"))
    }
    texts = queries["query"].take(find_rows(ids, queries["query_id"]))
    grades = rows["grade"].to_numpy()
    # A chunk is sorted by grade, so all its grades are equal if the first and the last are.
    one_grade = grades[offsets[:-1].to_numpy()] == grades[offsets[1:].to_numpy() - 1]
    fault = pc.if_else(pa.array(one_grade), ONE_GRADE, pa.scalar(None, pa.string()))
    return pa.table({"query_id": ids, "query": texts, **lists, FAULT: fault})
