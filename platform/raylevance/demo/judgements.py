"""The judgements table: each query's candidates, graded by rule; queries of one intent are in one split."""

import numpy as np
import pyarrow as pa

from raylevance.data.schema import ESCI_GRADES, JUDGEMENTS
from raylevance.demo.columns import PRODUCT, QUERY, identifiers
from raylevance.demo.intents import Intent
from raylevance.demo.randomness import Draws, Ints, pick
from raylevance.demo.relevance import LABELS
from raylevance.demo.shop import Shop, Storefront

SOURCE = "demo:1"
"""Marks the judgements as generated, by version 1 of the rule."""

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}


def judgements(shop: Shop, start: int, stop: int) -> pa.Table:
    """The judgements of queries `start` to `stop`: `judged_per_query` rows each."""
    return shop.table(start, stop, _judged)


def _judged(storefront: Storefront, queries: Ints) -> pa.Table:
    settings = storefront.settings
    intent = storefront.intents.of(queries)
    count = settings.judged_per_query
    slots, labels = storefront.candidates.of(intent, count)
    label = pa.array(labels.ravel())
    total = len(label)
    columns = {
        "query_id": identifiers(QUERY, np.repeat(storefront.numbers(queries), count)),
        "product_id": identifiers(PRODUCT, storefront.numbers(storefront.catalogue.rows(slots.ravel()))),
        "label": pa.array(LABELS).take(label),
        "grade": pa.array([ESCI_GRADES[name] for name in LABELS], pa.int8()).take(label),
        "source": pa.repeat(pa.scalar(SOURCE, pa.string()), total),
        "confidence": pa.repeat(pa.scalar(1.0, pa.float32()), total),
        "split": pa.array(list(SPLITS)).take(pa.array(np.repeat(_splits(intent, settings.seed), count))),
    }
    return pa.table(columns, schema=JUDGEMENTS)


def _splits(intent: Intent, seed: int) -> Ints:
    """By hash of the intent: however it is worded, and in whatever language, it is not in two splits."""
    return pick(Draws(seed, "split").uniform(intent.scope, *(intent.wanted + 1)), list(SPLITS.values()))
