"""Make pseudo-queries from product titles and category names, for a warm-up without judgements (our choice)."""

import functools
import re

import numpy as np
import pyarrow as pa
import ray.data

from raylevance.data.hashing import hash_strings
from raylevance.data.normal_form import clean
from raylevance.data.text import ProductText
from raylevance.data.words import LETTER, split_by_script

MIN_WORDS, MAX_WORDS = 2, 5
SHUFFLED = 0.5
"""The share of pseudo-queries with their words in random order: people do not type words in the order of a title."""

POSITIVE = 2
WORD = re.compile(rf"{LETTER}+(?:['’.-]{LETTER}+)*")
SCHEMA = pa.schema({"query": pa.string(), "items": pa.list_(pa.string()), "labels": pa.list_(pa.int8())})


def pseudo_queries(
    products: ray.data.Dataset, text: ProductText, per_product: int = 1, seed: int = 0, category_share: float = 0.0
) -> ray.data.Dataset:
    """Return training instances (query, items, labels) of one item: a span of a title and the text of its product.

    `per_product` spans of 2 to 5 words are drawn from each title. With probability `category_share`, the name of the
    product's category takes the place of a span. A title of one word gives no span. Titles in scripts without spaces
    are divided by `split_by_script`. The queries of a product depend on `seed` and its id alone, not on the order of
    rows.
    """
    cut = functools.partial(
        cut_pseudo_queries, text=text, per_product=per_product, seed=seed, category_share=category_share
    )
    return products.map_batches(cut, batch_format="pyarrow", batch_size=None)


def cut_pseudo_queries(
    products: pa.Table, text: ProductText, per_product: int = 1, seed: int = 0, category_share: float = 0.0
) -> pa.Table:
    """Return the `pseudo_queries` of one batch with the columns product_id, title, category and those of `text`."""
    queries, rows = cut_spans(products, per_product, seed, category_share)
    items = text.compose_column(products).take(pa.array(rows, pa.int64())).to_pylist()
    instances = {"query": queries, "items": [[item] for item in items], "labels": [[POSITIVE]] * len(rows)}
    return pa.table(instances, schema=SCHEMA)


def cut_spans(
    products: pa.Table, per_product: int, seed: int, category_share: float = 0.0
) -> tuple[list[str], list[int]]:
    """Return the queries of `pseudo_queries`, and the row of the product of each.

    `products` has the columns product_id, title and category.
    """
    queries: list[str] = []
    rows: list[int] = []
    columns = (products[name].to_pylist() for name in ("title", "category"))
    for row, (title, path, product) in enumerate(zip(*columns, hash_strings(products["product_id"]), strict=True)):
        random = np.random.default_rng([seed, int(product)])
        spans = _spans(title_words(title), per_product, random)
        if path and path[-1] and category_share:
            spans = [clean(path[-1]).lower() if random.random() < category_share else span for span in spans]
        cut = [span for span in spans if span]
        queries += cut
        rows += [row] * len(cut)
    return queries, rows


def title_words(title: str) -> list[str]:
    """Return the words of a title that spans are cut from, in lower case."""
    return WORD.findall(split_by_script(clean(title).lower()))


def _spans(words: list[str], count: int, random: np.random.Generator) -> list[str]:
    """Return `count` spans, which are empty if the title has too few words."""
    if len(words) < MIN_WORDS:
        return [""] * count
    spans = []
    for _ in range(count):
        length = int(random.integers(MIN_WORDS, min(MAX_WORDS, len(words)) + 1))
        start = int(random.integers(0, len(words) - length + 1))
        span = words[start : start + length]
        if random.random() < SHUFFLED:
            span = [span[index] for index in random.permutation(length)]
        spans.append(" ".join(span))
    return spans
