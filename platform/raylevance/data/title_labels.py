"""Labels of queries from product titles: spans of titles stand for queries of the labels of the products they name."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from raylevance.data.collecting import collect
from raylevance.data.hashing import Hashes, hash_strings
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import labels_of_products
from raylevance.data.pseudo_queries import MAX_WORDS, MIN_WORDS, cut_spans, title_words
from raylevance.data.query_labels import rows_of_labels
from raylevance.data.text import normalised_query

TITLES = "titles"
"""The `source` of labels from titles."""
TITLE_WEIGHT = 0.3
"""The weight of a row from titles: a span of a title is not what people type (our choice)."""
TITLES_AT_ONCE = 4096

SPANS = pa.schema({"query": pa.string(), "words": pa.uint64()})
NAMED = pa.schema({"words": pa.uint64(), "label": pa.int32(), "products": pa.int64()})


def labels_of_titles(
    products: ray.data.Dataset,
    space: LabelSpace,
    per_product: int = 1,
    seed: int = 0,
    share: float = 0.05,
    weight: float = TITLE_WEIGHT,
    named_by: ray.data.Dataset | None = None,
) -> pa.Table:
    """Return spans of titles as queries, with the labels of the products that they name, in `QUERY_LABELS`.

    `per_product` spans of 2 to 5 words are drawn from each title, as `pseudo_queries` does. A span names those of
    `products`, or of `named_by`, that have its words next to each other in their titles, in any order. It gets the
    labels that `share` or more of them have, of those with a label in the task, with the target 1. (our choice)

    The table has the columns product_id, title, category and those of the tasks. The result depends on `seed` and the
    products alone, not on their order or blocks.
    """
    cut = functools.partial(_spans_of_block, per_product=per_product, seed=seed)
    spans = collect(products.map_batches(cut, batch_format="pyarrow", batch_size=None), SPANS)
    wanted = ray.put(np.unique(spans["words"].to_numpy()))
    count = functools.partial(_named_in_block, wanted=wanted, space=space)
    counted = (named_by or products).map_batches(count, batch_format="pyarrow", batch_size=TITLES_AT_ONCE)
    named = collect(counted, NAMED).group_by(["words", "label"]).aggregate([("products", "sum")])
    words, label = named["words"].to_numpy(), named["label"].to_numpy()
    kept = _is_common(words, label, named["products_sum"].to_numpy(), space, share)
    queries = pa.table({"query": normalised_query(spans["query"]), "words": spans["words"]})
    queries = queries.group_by(["query", "words"]).aggregate([])
    joined = queries.join(pa.table({"words": words[kept], "label": label[kept]}), "words", join_type="inner")
    return rows_of_labels(joined["query"], joined["label"].to_numpy(), space, TITLES, weight)


def _is_common(
    words: Hashes, label: npt.NDArray[np.int32], products: npt.NDArray[np.int64], space: LabelSpace, share: float
) -> npt.NDArray[np.bool_]:
    """Return whether a label has `share` or more of the products that a span names in the label's task, bool [n]."""
    starts = np.array([space.rows(task).start for task in space.tasks])
    task = np.searchsorted(starts, label, side="right") - 1
    _, span = np.unique(words, return_inverse=True)
    group = span * len(starts) + task
    total = np.bincount(group, products, 1)[group]
    return np.asarray(products / total >= share)


def _spans_of_block(products: pa.Table, per_product: int, seed: int) -> pa.Table:
    queries, _ = cut_spans(products, per_product, seed)
    return pa.table([queries, _bags(query.split() for query in queries)], SPANS)


def _named_in_block(products: pa.Table, wanted: ray.ObjectRef[Any], space: LabelSpace) -> pa.Table:
    """Return how many products of each label have the words of each wanted span next to each other."""
    hashes: Hashes = ray.get(wanted)
    spans: list[list[str]] = []
    rows: list[int] = []
    for row, title in enumerate(products["title"].to_pylist()):
        found = list(_all_spans(title_words(title)))
        spans += found
        rows += [row] * len(found)
    bags = _bags(spans)
    place = np.searchsorted(hashes, bags)
    is_wanted = place < len(hashes)
    is_wanted[is_wanted] = hashes[place[is_wanted]] == bags[is_wanted]
    pairs = np.unique(np.stack([place[is_wanted], np.array(rows, np.int64)[is_wanted]]), axis=1)
    labels = labels_of_products(products, space)[pairs[1]]
    span, task = np.nonzero(labels >= 0)
    named, products_ = np.unique(pairs[0][span] << 32 | labels[span, task], return_counts=True)
    return pa.table([hashes[named >> 32], (named & 0xFFFFFFFF).astype(np.int32), products_], schema=NAMED)


def _all_spans(words: list[str]) -> Iterator[list[str]]:
    for length in range(MIN_WORDS, MAX_WORDS + 1):
        for start in range(len(words) - length + 1):
            yield words[start : start + length]


def _bags(spans: Iterable[list[str]]) -> Hashes:
    """Return a hash of the words of each span that is the same in any order of the words."""
    return hash_strings(pa.array([" ".join(sorted(span)) for span in spans], pa.string()))
