"""The judgements table: each query's candidates, graded by rule; queries of one intent are in one split."""

import numpy as np
import pyarrow as pa

from raylevance.data.demo.columns import PRODUCT, QUERY, identifiers
from raylevance.data.demo.intents import Intent
from raylevance.data.demo.randomness import Draws, Ints, pick
from raylevance.data.demo.relevance import LABELS
from raylevance.data.demo.shop import Shop
from raylevance.data.schema import ESCI_GRADES, JUDGEMENTS

SOURCE = "demo:1"
"""Marks the judgements as generated, by version 1 of the rule."""

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}


def judgements(shop: Shop, start: int, stop: int) -> pa.Table:
    """The judgements of queries `start` to `stop`: `judged_per_query` rows each."""
    intent = shop.intents.of(np.arange(start, stop))
    count = shop.settings.judged_per_query
    slots, labels = shop.candidates.of(intent, count)
    label = pa.array(labels.ravel())
    total = len(label)
    columns = {
        "query_id": identifiers(QUERY, np.repeat(intent.queries, count)),
        "product_id": identifiers(PRODUCT, shop.catalogue.rows(slots.ravel())),
        "label": pa.array(LABELS).take(label),
        "grade": pa.array([ESCI_GRADES[name] for name in LABELS], pa.int8()).take(label),
        "source": pa.repeat(pa.scalar(SOURCE, pa.string()), total),
        "confidence": pa.repeat(pa.scalar(1.0, pa.float32()), total),
        "split": pa.array(list(SPLITS)).take(pa.array(np.repeat(_splits(intent, shop.settings.seed), count))),
    }
    return pa.table(columns, schema=JUDGEMENTS)


def _splits(intent: Intent, seed: int) -> Ints:
    """By hash of the intent: however it is worded, it is not in two splits."""
    return pick(Draws(seed, "split").uniform(intent.scope, *(intent.wanted + 1)), list(SPLITS.values()))
