"""The judgements table: the candidates of each query, graded by rule. Queries of the same intent are in one split."""

import numpy as np
import pyarrow as pa

from raylevance.data.click_model import Labels
from raylevance.data.schema import ESCI_GRADES, JUDGEMENTS
from raylevance.demo.columns import PRODUCT, QUERY, identifiers, numbers_of
from raylevance.demo.intents import Intent
from raylevance.demo.randomness import Draws, Ints, pick
from raylevance.demo.relevance import IRRELEVANT, LABELS, grade_by_rule
from raylevance.demo.shop import Shop, Storefront

SOURCE = "demo:1"
"""Marks judgements that version 1 of the rule generated."""

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}
"""The share of the intents in each split."""


def judgements(shop: Shop, start: int, stop: int) -> pa.Table:
    """Return the judgements of queries `start` to `stop`, `judged_per_query` rows each."""
    return shop.table(start, stop, _storefront_judgements)


def grade_pairs(shop: Shop, query_ids: pa.Array, product_ids: pa.Array) -> Labels:
    """Return what the rule says of any query-product pairs of the shop, int8 indices into `LABELS`, [pairs].

    The ids are string [pairs] each. A product in another language than the query is irrelevant.
    """
    queries, products = numbers_of(query_ids), numbers_of(product_ids)
    labels = np.full(len(queries), IRRELEVANT, np.int8)
    count = len(shop.storefronts)
    for storefront, places, own in shop.by_storefront(queries):
        same = products[places] % count == storefront.place
        intent = storefront.intents.of_queries(own[same])
        slots = storefront.catalogue.slots(products[places[same]] // count)[:, None]
        leaves = storefront.catalogue.leaves(slots)
        attributes = storefront.catalogue.attributes(slots, leaves)
        labels[places[same]] = grade_by_rule(intent.scope, intent.wanted, leaves, attributes)[:, 0]
    return labels


def _storefront_judgements(storefront: Storefront, queries: Ints) -> pa.Table:
    settings = storefront.settings
    intent = storefront.intents.of_queries(queries)
    count = settings.judged_per_query
    slots, labels = storefront.candidates.for_intent(intent, count)
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
    """Return the split of each intent by its hash, so that no wording or language puts an intent in two splits."""
    return pick(Draws(seed, "split").uniform(intent.scope, *(intent.wanted + 1)), list(SPLITS.values()))
