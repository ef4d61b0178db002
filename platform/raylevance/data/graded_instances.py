"""Graded training instances: a query with its judged products and their grades.

Source: Mine and Refine (arXiv 2602.17654), section 4.1.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.data.hashing import hash_unit, pair_ids
from raylevance.data.id_rows import find_rows
from raylevance.data.schema import MODEL_PREFIX
from raylevance.data.spelling import SpellingSettings, add_misspelt_queries
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError

SCHEMA = pa.schema(
    {
        "query_id": pa.string(),
        "query": pa.string(),
        "items": pa.list_(pa.string()),
        "product_ids": pa.list_(pa.string()),
        "labels": pa.list_(pa.float32()),
    }
)
"""One instance a row. `items` are product texts, and `labels` their grades or soft labels (`soften`), highest first."""

JUDGEMENTS_AT_ONCE = 100_000
"""The judgements whose product texts are in memory at once, up to three times; one query's are never divided."""
LEAST_CONFIDENCE = 0.51
"""A lower confidence counts as this much, so that a soft label is nearest to its own grade."""


class InstanceSettings(Settings):
    """How the judgements of a query become training instances."""

    max_items: int = Field(32, ge=4)
    """The most products in an instance. A query with more products becomes several instances (our choice)."""

    per_grade: PositiveInt | None = None
    """The most products that a query contributes for each grade, drawn by hash. None takes all products.

    With a limit, neither a query with many judgements nor a frequent grade outweighs the others. The paper samples in
    strata without further details.
    """

    soft_labels: bool = False
    """Learn from labels between two grades where a judge gave its confidence: `soften` says which (our choice)."""


class InstanceSummary(NamedTuple):
    """The number of instances written, of queries left out because all their products have one grade, and of judgements
    left out because their query or product is not given."""

    instances: int
    one_grade: int
    unknown: int


def write_instances(
    judgements: pa.Table,
    queries: pa.Table,
    products: pa.Table,
    output: Path,
    text: ProductText,
    settings: InstanceSettings,
    spelling: SpellingSettings | None = None,
    seed: int = 0,
) -> InstanceSummary:
    """Write the instances of `judgements` to the new folder `output`, as Parquet files of `SCHEMA`.

    An instance has products of two or three grades, in one of the four shapes (2, 1, 0), (2, 0), (1, 0) and (2, 1): a
    single grade does not say which product should come first. A judgement whose query or product is not given is left
    out. `spelling` says how misspelt variants of queries enter; None adds none. Its mode regularise adds the column
    `VARIANT`. Each file holds the queries of `JUDGEMENTS_AT_ONCE` judgements.

    Raises `RaylevanceError` if no query has products of two grades.
    """
    given = [
        pc.is_in(judgements[name], table[name].combine_chunks())
        for name, table in (("query_id", queries), ("product_id", products))
    ]
    labels = soften(judgements) if settings.soft_labels else judgements["grade"].cast(pa.float32())
    judged = judgements.select(["query_id", "product_id", "grade"]).append_column("label", labels)
    judged = judged.filter(pc.and_(*given))
    output.mkdir(parents=True)
    written = one_grade = 0
    order = [("query_id", "ascending"), ("grade", "descending"), ("product_id", "ascending")]
    for number, block in enumerate(_whole_queries(judged.sort_by(order))):
        instances, without = group_instances(_with_items(block, products, text), queries, settings, seed)
        if spelling and spelling.mode != "none":
            instances = add_misspelt_queries(instances, spelling, seed)
        if instances.num_rows:
            pq.write_table(instances, output / f"part-{number:06d}.parquet", compression="zstd")
        written, one_grade = written + instances.num_rows, one_grade + without
    if not written:
        raise RaylevanceError(f"no training instance: none of {one_grade} judged queries has products of two grades")
    return InstanceSummary(written, one_grade, judgements.num_rows - judged.num_rows)


def soften(judgements: pa.Table) -> pa.ChunkedArray:
    """Return 1 + c (grade - 1) of each judgement that a judge made with the confidence c, and the grade of others.

    The result is float32 [n]. It is the mean of the grade where the probability that c leaves is that of the
    neighbouring grades: of grade 1 for the grades 0 and 2, which so come nearer to it, and of 0 and 2 alike for grade
    1, which stays 1. A lower confidence than `LEAST_CONFIDENCE` counts as that. What people judged stays as it is, and
    so does a grade without a confidence.
    """
    grade = judgements["grade"].cast(pa.float32())
    confidence = pc.max_element_wise(
        judgements["confidence"].cast(pa.float32()), pa.scalar(LEAST_CONFIDENCE, pa.float32()), skip_nulls=False
    )
    by_judge = pc.starts_with(judgements["source"], MODEL_PREFIX)
    confidence = pc.fill_null(pc.if_else(by_judge, confidence, pa.scalar(1.0, pa.float32())), 1.0)
    return pc.add(pc.multiply(confidence, pc.subtract(grade, 1.0)), 1.0).cast(pa.float32())


def group_instances(
    judged: pa.Table, queries: pa.Table, settings: InstanceSettings, seed: int = 0
) -> tuple[pa.Table, int]:
    """Group `judged` (query_id, product_id, grade, label, item) into instances, in the order of their query ids.

    The rows are sorted by query, and those of a query by grade, highest first. Returns rows of `SCHEMA`, and the number
    of queries whose products all have one grade, which have no instance.
    """
    if settings.per_grade:
        judged = sample_per_grade(judged, settings.per_grade, seed)
    grades = judged["grade"].to_numpy()
    starts = _query_starts(judged)
    ends = [*starts[1:], len(grades)]
    # The grades of a query are sorted, so they are all equal if the first and the last are.
    graded = [(start, end) for start, end in zip(starts, ends, strict=True) if grades[start] != grades[end - 1]]
    chunks = [start + chunk for start, end in graded for chunk in chunk_by_grade(grades[start:end], settings.max_items)]
    return _instances(judged, queries, chunks), len(starts) - len(graded)


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


def _whole_queries(judged: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of `judged`, sorted by query, in parts of about `JUDGEMENTS_AT_ONCE`, which divide no query."""
    starts = _query_starts(judged)
    parts = np.flatnonzero(np.diff(starts // JUDGEMENTS_AT_ONCE, prepend=-1))
    bounds = [*starts[parts], judged.num_rows]
    for start, end in itertools.pairwise(bounds):
        yield judged.slice(start, end - start)


def _query_starts(judged: pa.Table) -> npt.NDArray[np.int64]:
    """Return the first row of each query of `judged`, which is sorted by query, int64 [queries]."""
    queries = judged["query_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts: npt.NDArray[np.int64] = np.flatnonzero(np.diff(queries, prepend=-1))
    return starts


def _with_items(judged: pa.Table, products: pa.Table, text: ProductText) -> pa.Table:
    """Add the texts of the products, each composed once, in the column item."""
    ids = pc.unique(judged["product_id"])
    own = products.select(text.columns).take(find_rows(ids, products["product_id"]))
    items = text.compose_column(own).combine_chunks()
    return judged.append_column("item", items.take(pc.index_in(judged["product_id"], ids).combine_chunks()))


def _instances(judged: pa.Table, queries: pa.Table, chunks: list[npt.NDArray[np.int64]]) -> pa.Table:
    offsets = pa.array(np.cumsum([0, *map(len, chunks)]), pa.int32())
    rows = judged.take(np.concatenate([np.empty(0, np.int64), *chunks]))
    ids = rows["query_id"].take(offsets[:-1])
    lists = {
        name: pa.ListArray.from_arrays(offsets, rows[column].combine_chunks())
        for name, column in (("items", "item"), ("product_ids", "product_id"), ("labels", "label"))
    }
    texts = queries["query"].take(find_rows(ids, queries["query_id"]))
    return pa.table({"query_id": ids, "query": texts, **lists}).cast(SCHEMA)
