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

GRADES = pa.array([ESCI_GRADES[name] for name in LABELS], pa.int8())
"""The grade of each of `LABELS`."""

GRADED_AT_ONCE = 2_000_000
"""Pairs of a query and a product that are graded at once, where the whole catalogue is."""

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


def grade_catalogue(shop: Shop, query_ids: pa.Array) -> pa.Table:
    """Return every product of the shop that the rule does not call irrelevant for the queries `query_ids`, string [n].

    Rows have the columns query_id, product_id, label and grade, in the order of `query_ids`. Memory is bounded by them
    and by `GRADED_AT_ONCE` pairs, or the catalogue if it is larger.
    """
    blocks = []
    for storefront, places, own in shop.by_storefront(numbers_of(query_ids)):
        step = max(1, GRADED_AT_ONCE // storefront.catalogue.size)
        for start in range(0, len(own), step):
            block = slice(start, start + step)
            blocks.append(_grade_all(storefront, query_ids, places[block], own[block]))
    graded = pa.concat_tables(blocks)
    return graded.take(np.argsort(graded["place"].to_numpy(), kind="stable")).drop_columns(["place"])


def _grade_all(storefront: Storefront, query_ids: pa.Array, places: Ints, queries: Ints) -> pa.Table:
    """Grade the whole catalogue for the `queries` of a storefront, which are at `places` of `query_ids`."""
    catalogue, intent = storefront.catalogue, storefront.intents.of_queries(queries)
    slots = np.arange(catalogue.size)
    leaves = catalogue.leaves(slots)
    shape = len(queries), len(slots)
    labels = grade_by_rule(
        intent.scope,
        intent.wanted,
        np.broadcast_to(leaves, shape),
        catalogue.attributes(slots, leaves)[:, None, :],
    )
    row, slot = np.nonzero(labels != IRRELEVANT)
    label = pa.array(labels[row, slot])
    products = identifiers(PRODUCT, storefront.numbers(catalogue.rows(slots)))
    return pa.table(
        {
            "place": places[row],
            "query_id": query_ids.take(pa.array(places[row])),
            "product_id": products.take(pa.array(slot)),
            "label": pa.array(LABELS).take(label),
            "grade": GRADES.take(label),
        }
    )


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
        "grade": GRADES.take(label),
        "source": pa.repeat(pa.scalar(SOURCE, pa.string()), total),
        "confidence": pa.repeat(pa.scalar(1.0, pa.float32()), total),
        "split": pa.array(list(SPLITS)).take(pa.array(np.repeat(_splits(intent, settings.seed), count))),
    }
    return pa.table(columns, schema=JUDGEMENTS)


def _splits(intent: Intent, seed: int) -> Ints:
    """Return the split of each intent by its hash, so that no wording or language puts an intent in two splits."""
    return pick(Draws(seed, "split").uniform(intent.scope, *(intent.wanted + 1)), list(SPLITS.values()))
