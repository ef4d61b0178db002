"""The events table: a log of searches, simulated with the click model.

The log consists of chunks of `CHUNK` rows. Each chunk is a pure function of its number. Requests are added until the
chunk is full, and the last request is cut off there, as in a rotated log file (about one request in 3,700). A request
shows the best `SHOWN` of its query's candidates by a noisy score. The score does not depend on the user, so that
attraction is independent of position.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.click_model import ENGINE_NOISE, ENGINE_SCORES, LOG_START, Labels, simulate_actions
from raylevance.data.schema import ACTIONS, EVENTS
from raylevance.demo.columns import PRODUCT, QUERY, REQUEST, SESSION, USER, identifiers
from raylevance.demo.lexicon import BRAND, COLOUR, word_tables
from raylevance.demo.randomness import Draws, Floats, Ints
from raylevance.demo.settings import DemoSettings
from raylevance.demo.shop import Shop, Storefront

CHUNK = 1 << 16
SHOWN = 16
REQUESTS = CHUNK // SHOWN
"""Requests simulated for a chunk. Those that do not fit are dropped."""

POOL = 48
"""The number of candidates that a request ranks."""

NEW_SESSION_SHARE = 0.45
"""The share of requests that start a session."""

REFORMULATION_SHARE = 0.5
"""The share of a session's later requests that ask for the same leaf as its first request."""

SPAN = 28 * 24 * 3600 * 1000
"""The length of the log in milliseconds, whatever the number of events."""

APPEAL_WEIGHT = 0.3
MINUTE = 60_000


class Requests(NamedTuple):
    """n requests in the order of the log, each field [n].

    `session`: the number of the session's first request. `time`: milliseconds since 1970.
    """

    number: Ints
    session: Ints
    user: Ints
    query: Ints
    time: Ints


class ResultLists(NamedTuple):
    """The results of n requests, each field [n, SHOWN], best first. `products`: rows of the products table."""

    products: Ints
    labels: Labels
    brands: Ints
    colours: Ints
    appeal: Floats


def chunk_count(settings: DemoSettings) -> int:
    """Return the number of chunks of the log."""
    return -(-settings.events // CHUNK)


def events(shop: Shop, start: int, stop: int) -> pa.Table:
    """Return chunks `start` to `stop` of the events table: `CHUNK` rows each, fewer in the last chunk of the log."""
    return pa.concat_tables([_chunk(shop, chunk) for chunk in range(start, stop)])


def _chunk(shop: Shop, chunk: int) -> pa.Table:
    requests = simulate_requests(shop, chunk)
    shown = result_lists(shop, requests)
    done = _actions(shop, requests, shown)
    # Sorted by request, then action, then position: exposures come before the actions that follow them.
    request, action, place = np.nonzero(done.transpose(0, 2, 1))
    rows = min(CHUNK, shop.settings.events - chunk * CHUNK)
    request, action, place = request[:rows], action[:rows], place[:rows]
    delay = _delays(shop, requests)[request, place, action]
    of_request = pa.array(request)
    columns = {
        "request_id": identifiers(REQUEST, requests.number).take(of_request),
        "session_id": identifiers(SESSION, requests.session).take(of_request),
        "user_id": identifiers(USER, requests.user).take(of_request),
        "query_id": identifiers(QUERY, requests.query).take(of_request),
        "product_id": identifiers(PRODUCT, shown.products[request, place]),
        "position": pa.array((place + 1).astype(np.int32)),
        "action": pa.array(ACTIONS).take(pa.array(action)),
        "timestamp": pa.array(requests.time[request] + delay).cast(pa.timestamp("ms", tz="UTC")),
    }
    return pa.table(columns, schema=EVENTS)


def simulate_requests(shop: Shop, chunk: int) -> Requests:
    """Simulate the requests of a chunk.

    Sessions follow one another. A session has one user, and a user has one locale. Popular queries are more frequent.
    """
    local = np.arange(REQUESTS)
    number = chunk * REQUESTS + local
    begins = _uniform(shop, "session", number) < NEW_SESSION_SHARE
    begins[0] = True
    first = np.maximum.accumulate(np.where(begins, local, 0))
    session = number[first]
    follows = ~begins & (_uniform(shop, "reformulation", number) < REFORMULATION_SHARE)
    user = (_uniform(shop, "user", session) ** 2 * shop.settings.users).astype(np.int64)
    length = SPAN // chunk_count(shop.settings)
    pause = (local - first) * MINUTE + (_uniform(shop, "pause", number) * MINUTE / 2).astype(np.int64)
    time = LOG_START + chunk * length + first * length // REQUESTS + pause
    return Requests(number, session, user, _choose_queries(shop, number, first, follows, user), time)


def _choose_queries(shop: Shop, number: Ints, first: Ints, follows: npt.NDArray[np.bool_], user: Ints) -> Ints:
    """Return the query of each request. Where `follows` is True, it has the leaf of the session's first query."""
    popular, related = _uniform(shop, "query", number), _uniform(shop, "related", number)
    asked = np.empty_like(number)
    for storefront, places, _ in shop.by_storefront(user):
        zipf = _zipf(popular, storefront.intents.queries)
        query = np.where(follows, storefront.intents.with_same_leaf(zipf[first], related), zipf)
        asked[places] = storefront.numbers(query[places])
    return asked


def result_lists(shop: Shop, requests: Requests) -> ResultLists:
    """Return the results of each request: products of its query's locale."""
    parts = [
        (places, _result_lists(shop, storefront, requests.number[places], queries))
        for storefront, places, queries in shop.by_storefront(requests.query)
    ]
    back = np.argsort(np.concatenate([places for places, _ in parts]))
    return ResultLists(*(np.concatenate(field)[back] for field in zip(*(shown for _, shown in parts), strict=True)))


def _result_lists(shop: Shop, storefront: Storefront, number: Ints, queries: Ints) -> ResultLists:
    catalogue = storefront.catalogue
    distinct, which = np.unique(queries, return_inverse=True)
    pool = storefront.candidates.for_intent(storefront.intents.of_queries(distinct), POOL)
    score = (ENGINE_SCORES[pool.labels] + APPEAL_WEIGHT * catalogue.appeal(pool.slots))[which]
    uniform = _uniform(shop, "score", number[:, None], np.arange(POOL))
    score -= ENGINE_NOISE * np.log(-np.log(uniform + 2.0**-54))
    best = np.argsort(-score, axis=1)[:, :SHOWN]
    slots, labels = pool.slots[which[:, None], best], pool.labels[which[:, None], best]
    attributes = catalogue.attributes(slots, catalogue.leaves(slots))
    rows = storefront.numbers(catalogue.rows(slots))
    return ResultLists(rows, labels, attributes[BRAND], attributes[COLOUR], catalogue.appeal(slots))


def _actions(shop: Shop, requests: Requests, shown: ResultLists) -> npt.NDArray[np.bool_]:
    """Return which actions follow from each result, bool [requests, SHOWN, actions]."""
    factor = shop.tastes.factor(requests.user[:, None], shown.brands, shown.colours, word_tables().tiers[shown.brands])
    factor *= 1 + APPEAL_WEIGHT * shown.appeal
    positions = np.arange(1, SHOWN + 1)
    uniform = _uniform(shop, "act", np.arange(3)[:, None, None], requests.number[:, None], positions)
    actions = simulate_actions(positions, shown.labels, factor, uniform)
    return np.stack([np.ones_like(actions.click), *actions], axis=-1)


def _delays(shop: Shop, requests: Requests) -> Ints:
    """Return the milliseconds from a request to each action, [requests, SHOWN, actions].

    Delays grow with the position and from click to cart to purchase.
    """
    positions = np.arange(1, SHOWN + 1)
    jitter = 1 + _uniform(shop, "delay", requests.number[:, None], positions)
    click = 1_500 * positions * jitter
    return np.stack([0 * click, click, click + 15_000 * jitter, click + MINUTE * jitter], axis=-1).astype(np.int64)


def _zipf(uniform: Floats, size: int) -> Ints:
    """Return ranks from 0 with a frequency in proportion to 1 / (rank + 1), by the inverse of the integral."""
    return np.minimum((size + 1) ** uniform, size).astype(np.int64) - 1


def _uniform(shop: Shop, name: str, *counters: npt.NDArray[np.integer]) -> Floats:
    return Draws(shop.settings.seed, f"event {name}").uniform(*counters)
