"""Training instances: a query with its judged products and their grades (Mine and Refine, arXiv 2602.17654)."""

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
from raylevance.data.buckets import bucket_count, join_buckets
from raylevance.data.hashing import hash_unit, pair_ids
from raylevance.data.parts import Parts, write_parts
from raylevance.data.rows import FAULT
from raylevance.data.spelling import VARIANT, SpellingSettings, augment
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
"""`items`: product texts; `labels`: their grades, highest first."""

JUDGED = pa.schema([("query_id", pa.string()), ("product_id", pa.string()), ("grade", pa.int8())])
ITEM = pa.schema([("product_id", pa.string()), ("item", pa.string())])
JUDGED_ITEM = JUDGED.append(pa.field("item", pa.string()))
QUERY = pa.schema([("query_id", pa.string()), ("query", pa.string())])

ONE_GRADE = "all products have one grade"


class InstanceSettings(Settings):
    """`max_items`: products an instance may have; a query with more becomes several instances (our choice).

    `per_grade`: products of each grade that a query gives at most, drawn by hash, so that neither a query with many
    judgements nor a frequent grade outweighs the others; None: all. The paper samples in strata and says no more.
    """

    max_items: int = Field(32, ge=4)
    per_grade: PositiveInt | None = None


class InstanceSummary(NamedTuple):
    """Instances written, and queries left out because all their products have one grade."""

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
    """Write the instances of `judgements` to the folder `output` as Parquet parts of `SCHEMA`, with `VARIANT` if asked.

    An instance has products of two or three grades: the four shapes (2, 1, 0), (2, 0), (1, 0), (2, 1). One grade alone
    says nothing about order. A judgement of a query or product that is not given is left out. Misspelt variants of
    queries enter as `spelling` says (None: none). Raises `RaylevanceError` where no query has two grades.
    """
    compose = functools.partial(_items, text=text)
    items = products.map_batches(compose, batch_format="pyarrow", batch_size=None)
    buckets = bucket_count(judgements, products)
    judged = join_buckets(judgements, items, "product_id", _with_item, (JUDGED, ITEM), buckets)
    group = functools.partial(group_instances, settings=settings, seed=seed)
    instances = join_buckets(judged, queries, "query_id", group, (JUDGED_ITEM, QUERY), buckets)
    if spelling and spelling.mode != "none":
        misspelt = functools.partial(augment, settings=spelling, seed=seed)
        instances = instances.map_batches(misspelt, batch_format="pyarrow", batch_size=None)
    beside = spelling is not None and spelling.mode == "regularise"
    schema = SCHEMA.append(pa.field(VARIANT, pa.string())) if beside else SCHEMA
    written = write_parts(instances, Parts(output, schema))
    one_grade = written.faults[ONE_GRADE]
    if not written.rows:
        raise RaylevanceError(f"no training instance: none of {one_grade} judged queries has products of two grades")
    return InstanceSummary(written.rows, one_grade)


def group_instances(judged: pa.Table, queries: pa.Table, settings: InstanceSettings, seed: int = 0) -> pa.Table:
    """Instances of `judged` (query_id, product_id, grade, item) in the order of their query ids.

    A query that makes none has one row whose column `rows.FAULT` says why.
    """
    order = [("query_id", "ascending"), ("grade", "descending"), ("product_id", "ascending")]
    judged = judged.filter(pc.is_in(judged["query_id"], queries["query_id"].combine_chunks())).sort_by(order)
    if settings.per_grade:
        judged = sample_strata(judged, settings.per_grade, seed)
    grades = judged["grade"].to_numpy()
    ids = judged["query_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    chunks = [
        start + chunk
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)
        for chunk in deal(grades[start:end], settings.max_items)
    ]
    return _instances(judged, queries, chunks)


def sample_strata(judged: pa.Table, most: int, seed: int) -> pa.Table:
    """`most` rows of each query and grade, by a hash of the pair; the rows stay in their order."""
    strata = pc.binary_join_element_wise(judged["query_id"], judged["grade"].cast(pa.string()), "\0")
    stratum = strata.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((hash_unit(pair_ids(judged), seed, "stratum"), stratum))
    starts = np.flatnonzero(np.diff(stratum[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return judged.take(pa.array(np.sort(order[place < most])))


def deal(grades: npt.NDArray[np.int8], max_items: int) -> list[npt.NDArray[np.int64]]:
    """Positions of `grades` (sorted, highest first) in as few chunks of at most `max_items` as hold every grade each.

    Each grade is dealt out in turn; one with fewer items than there are chunks has them in several. `max_items` must be
    larger than the number of grades.
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


def _items(products: pa.Table, text: ProductText) -> pa.Table:
    return pa.table({"product_id": products["product_id"], "item": text.column(products)}).cast(ITEM)


def _with_item(judgements: pa.Table, items: pa.Table) -> pa.Table:
    found = pc.index_in(judgements["product_id"], items["product_id"].combine_chunks())
    return judgements.append_column("item", items["item"].take(found)).filter(found.is_valid())


def _instances(judged: pa.Table, queries: pa.Table, chunks: list[npt.NDArray[np.int64]]) -> pa.Table:
    offsets = pa.array(np.cumsum([0, *map(len, chunks)]), pa.int32())
    rows = judged.take(np.concatenate([np.empty(0, np.int64), *chunks]))
    ids = rows["query_id"].take(offsets[:-1])
    lists = {
        name: pa.ListArray.from_arrays(offsets, rows[column].combine_chunks())
        for name, column in (("items", "item"), ("product_ids", "product_id"), ("labels", "grade"))
    }
    texts = queries["query"].take(pc.index_in(ids, queries["query_id"].combine_chunks()))
    grades = rows["grade"].to_numpy()
    # Sorted within a chunk, so it has one grade where its first and last are equal.
    one_grade = grades[offsets[:-1].to_numpy()] == grades[offsets[1:].to_numpy() - 1]
    fault = pc.if_else(pa.array(one_grade), ONE_GRADE, pa.scalar(None, pa.string()))
    return pa.table({"query_id": ids, "query": texts, **lists, FAULT: fault})
