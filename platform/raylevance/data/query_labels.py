"""Labels of queries for the training of a query classifier: from judgements, from pairs, and how they are merged.

`click_labels` has those of clicks and `title_labels` those of product titles. Each source gives rows of `QUERY_LABELS`,
one for each query and task; `merge_query_labels` makes them one table.

Source: SSUF (arXiv 2506.21049): the labels of a query are those of its clicked products. The other sources are our
choice.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.id_rows import rows_of_ids
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import labels_of_products
from raylevance.data.text import normalised_query
from raylevance.errors import RaylevanceError
from raylevance.progress import status

QUERY_LABELS = pa.schema(
    [
        ("query", pa.string()),
        ("task", pa.string()),
        ("labels", pa.list_(pa.int32())),
        ("targets", pa.list_(pa.float32())),
        ("source", pa.string()),
        ("weight", pa.float32()),
    ]
)
"""Schema of the labels of queries. `query` is normalised, `labels` are rows of a label space, ascending, `targets` are
in (0, 1], and `weight` is the weight of the row in the loss."""

JUDGEMENTS = "judgements"

Ints = npt.NDArray[np.int64]


def labels_of_judgements(judged: JudgedTables, space: LabelSpace, grade: int = 2) -> pa.Table:
    """Return the labels of the products that are judged `grade` or better for each query, in `QUERY_LABELS`.

    Targets and weights are 1. Queries none of whose products has a label are counted in a status line.

    Raises `RaylevanceError` if a judgement names a query or a product that is not among those of `judged`.
    """
    good = judged.judgements.filter(pc.greater_equal(judged.judgements["grade"], grade))
    rows = rows_of_ids(good["query_id"], judged.queries["query_id"], "judgements of query {}: no such query_id")
    texts = judged.queries["query"].take(pa.array(rows))
    return labels_of_pairs(texts, good["product_id"], judged.products, space, JUDGEMENTS)


def labels_of_pairs(
    queries: pa.Array | pa.ChunkedArray,
    product_ids: pa.Array | pa.ChunkedArray,
    products: pa.Table,
    space: LabelSpace,
    source: str,
    weight: float = 1.0,
) -> pa.Table:
    """Return the labels of the products `product_ids` [n] for the texts `queries` [n], in `QUERY_LABELS`.

    These may be pairs of synthetic queries and their products. A query gets the labels of all its products, with the
    target 1. Queries none of whose products has a label are counted in a status line.

    Raises `RaylevanceError` for a product that is not among `products`.
    """
    ids = pc.unique(product_ids)
    places = rows_of_ids(ids, products["product_id"], f"{source}: product {{}} is not among the products")
    labels = labels_of_products(products.take(pa.array(places)), space)[pc.index_in(product_ids, ids).to_numpy()]
    pair, _ = np.nonzero(labels >= 0)
    texts = normalised_query(queries)
    rows = rows_of_labels(texts.take(pa.array(pair)), labels[labels >= 0], space, source, weight)
    without = pc.count_distinct(texts).as_py() - pc.count_distinct(rows["query"]).as_py()
    if without:
        status(f"{without} queries of {source} have no product with a label; they are left out")
    return rows


def rows_of_labels(
    queries: pa.Array | pa.ChunkedArray, labels: npt.NDArray[np.integer], space: LabelSpace, source: str, weight: float
) -> pa.Table:
    """Return rows of `QUERY_LABELS` from pairs of a normalised query [n] and a label of `space` [n], with the target 1.

    Pairs may be in any order and repeat. The rows are in the order of the queries' texts and of the tasks.
    """
    texts, ranks = _ranked(queries)
    pairs = np.unique(ranks << 32 | labels.astype(np.int64))
    query, label = pairs >> 32, pairs & 0xFFFFFFFF
    starts = np.array([space.rows(task).start for task in space.tasks], np.int64)
    task = np.searchsorted(starts, label, side="right") - 1
    first = np.flatnonzero(np.diff(query, prepend=-1).astype(bool) | np.diff(task, prepend=-1).astype(bool))
    return _table(
        texts.take(pa.array(query[first])),
        pa.array(space.tasks, pa.string()).take(pa.array(task[first])),
        np.append(first, len(pairs)),
        label,
        np.ones(len(pairs)),
        pa.repeat(pa.scalar(source), len(first)),
        np.full(len(first), weight),
    )


def merge_query_labels(
    tables: Sequence[pa.Table], weights: Mapping[str, float] | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Return one row for each query and task of `tables`, in `QUERY_LABELS`, and a report of what each source gave.

    Queries are put together by their normalised texts. A row has the labels of all sources, each with its largest
    target, and the weight and the name of the source of the largest weight, the earlier one if several have it.
    `weights` gives each source another weight than its rows have; a source of weight 0 is left out.

    The report has the number of rows, queries and labels (those of a query counted once), and for each source, also
    for one in `weights` that has no row,

    - queries and labels,
    - labels_of_no_other: labels of a query that no other source gave it,
    - rows_without_text and rows_without_labels, which are left out.

    Raises `RaylevanceError` if a target is not above 0 and at most 1, if a row has more or fewer targets than labels,
    or if no row is left.
    """
    rows = pa.concat_tables([QUERY_LABELS.empty_table(), *(table.cast(QUERY_LABELS) for table in tables)])
    rows = rows.combine_chunks().set_column(0, "query", normalised_query(rows["query"]))
    weight = rows["weight"].to_numpy().astype(np.float64)
    sources = list(dict.fromkeys([*rows["source"].to_pylist(), *(weights or {})]))
    source = pc.index_in(rows["source"], pa.array(sources, pa.string())).to_numpy()
    for place, name in enumerate(sources):
        weight[source == place] = (weights or {}).get(name, weight[source == place])
    no_text = pc.fill_null(pc.equal(rows["query"], ""), True).to_numpy()
    no_labels = ~pc.fill_null(pc.greater(pc.list_value_length(rows["labels"]), 0), False).to_numpy() & ~no_text
    kept = ~no_text & ~no_labels & (weight > 0)
    if not kept.any():
        raise RaylevanceError(f"none of the {len(kept)} rows of query labels has a text, a label and a weight above 0")
    merged, report = _merge(rows.filter(pa.array(kept)), source[kept], weight[kept], sources)
    for place, name in enumerate(sources):
        of_source = source == place
        report["sources"][name]["rows_without_text"] = int((no_text & of_source).sum())
        report["sources"][name]["rows_without_labels"] = int((no_labels & of_source).sum())
    return merged, report


def _merge(
    rows: pa.Table, source: npt.NDArray[np.integer], weight: npt.NDArray[np.float64], sources: list[str]
) -> tuple[pa.Table, dict[str, Any]]:
    parent, label, target = _exploded(rows)
    texts, query = _ranked(rows["query"])
    tasks, task = _ranked_by_label(rows["task"], parent, label)
    group = query * len(tasks) + task
    keys = group[parent] << 32 | label
    pairs, pair = np.unique(keys, return_inverse=True)
    largest = np.zeros(len(pairs))
    np.maximum.at(largest, pair, target)
    best = np.lexsort((np.arange(len(group)), -weight, group))
    best = best[np.diff(group[best], prepend=-1).astype(bool)]
    first = np.flatnonzero(np.diff(pairs >> 32, prepend=-1).astype(bool))
    merged = _table(
        texts.take(pa.array(query[best])),
        tasks.take(pa.array(task[best])),
        np.append(first, len(pairs)),
        pairs & 0xFFFFFFFF,
        largest,
        pa.array(sources, pa.string()).take(pa.array(source[best])),
        weight[best],
    )
    given = np.unique(pair * len(sources) + source[parent])
    alone = np.bincount(given // len(sources), minlength=len(pairs)) == 1
    by_source: dict[str, dict[str, int]] = {}
    for place, name in enumerate(sources):
        of_source = given[given % len(sources) == place] // len(sources)
        by_source[name] = {
            "queries": len(np.unique(query[source == place])),
            "labels": len(of_source),
            "labels_of_no_other": int(alone[of_source].sum()),
        }
    counts = {"rows": merged.num_rows, "queries": len(np.unique(query)), "labels": len(pairs)}
    return merged, {**counts, "sources": by_source}


def without_queries(rows: pa.Table, held_out: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the rows of `QUERY_LABELS` whose query is none of the texts `held_out`, compared by normalised text.

    The rows that are left out are counted in a status line.
    """
    texts = normalised_query(held_out)
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    is_held_out = pc.is_in(normalised_query(rows["query"]), texts)
    left = rows.filter(pc.invert(is_held_out))
    if left.num_rows < rows.num_rows:
        status(f"{rows.num_rows - left.num_rows} rows of query labels are of held-out queries; they are left out")
    return left


def _exploded(rows: pa.Table) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Return the row, the label and the target of each label of `rows`."""
    labels, targets = rows["labels"].combine_chunks(), rows["targets"].combine_chunks()
    unequal = pc.fill_null(pc.not_equal(pc.list_value_length(labels), pc.list_value_length(targets)), True)
    target = targets.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    if pc.any(unequal).as_py():
        bad = rows.filter(unequal).slice(0, 1).to_pylist()[0]
        raise RaylevanceError(f"query {bad['query']!r} of {bad['source']}: give each of its labels one target")
    parent = labels.value_parent_indices().to_numpy().astype(np.int64)
    wrong = np.flatnonzero(~((target > 0) & (target <= 1)))
    if len(wrong):
        bad = rows.slice(int(parent[wrong[0]]), 1).to_pylist()[0]
        raise RaylevanceError(
            f"query {bad['query']!r} of {bad['source']}: the target {target[wrong[0]]:g} is not above 0 and at most 1"
        )
    return parent, labels.flatten().to_numpy().astype(np.int64), target


def _ranked(texts: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, Ints]:
    """Return the distinct `texts` in ascending order, and the place of each text among them, int64 [n]."""
    distinct = pc.unique(texts)
    distinct = distinct.take(pc.array_sort_indices(distinct))
    return distinct, pc.index_in(texts, distinct).to_numpy().astype(np.int64)


def _ranked_by_label(tasks: pa.ChunkedArray, parent: Ints, label: Ints) -> tuple[pa.Array, Ints]:
    """Return the distinct `tasks` in the order of their smallest labels, and the place of each among them."""
    distinct, place = _ranked(tasks)
    smallest = np.full(len(distinct), np.iinfo(np.int64).max)
    np.minimum.at(smallest, place[parent], label)
    order = np.argsort(smallest, kind="stable")
    return distinct.take(pa.array(order)), np.argsort(order)[place]


def _table(
    queries: pa.Array,
    tasks: pa.Array,
    offsets: Ints,
    labels: Ints,
    targets: npt.NDArray[np.float64],
    sources: pa.Array,
    weights: npt.NDArray[np.float64],
) -> pa.Table:
    starts = pa.array(offsets, pa.int32())
    columns = [
        queries,
        tasks,
        pa.ListArray.from_arrays(starts, pa.array(labels, pa.int32())),
        pa.ListArray.from_arrays(starts, pa.array(targets, pa.float32())),
        sources,
        pa.array(weights, pa.float32()),
    ]
    return pa.table(columns, schema=QUERY_LABELS)
