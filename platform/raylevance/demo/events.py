"""The events table: a simulated log of searches, from the click model. No real user is behind it.

The log is made in chunks of `CHUNK` rows, each a pure function of its number: requests follow one another until the
chunk is full, and the last one is cut where it ends, as a rotated log file is (one request in some 3,700). A request
shows the best `SHOWN` of its query's candidates under a noisy score, which does not know the user, so that attraction
does not depend on position.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.click_model import ENGINE_NOISE, ENGINE_SCORES, LOG_START, act
from raylevance.data.schema import ACTIONS, EVENTS
from raylevance.demo.columns import PRODUCT, QUERY, REQUEST, SESSION, USER, identifiers
from raylevance.demo.lexicon import BRAND, COLOUR, words
from raylevance.demo.randomness import Draws, Floats, Ints
from raylevance.demo.relevance import Labels
from raylevance.demo.settings import DemoSettings
from raylevance.demo.shop import Shop, Storefront

CHUNK = 1 << 16
SHOWN = 16
REQUESTS = CHUNK // SHOWN
"""Requests simulated for a chunk; those that do not fit are dropped."""

POOL = 48
"""Candidates that a request ranks."""

NEW_SESSION_SHARE = 0.45
REFORMULATION_SHARE = 0.5
"""How often a later request of a session asks for the leaf of the session's first one."""

SPAN = 28 * 24 * 3600 * 1000
"""The length of the log in milliseconds, whatever the number of events."""

APPEAL_WEIGHT = 0.3
MINUTE = 60_000


class Requests(NamedTuple):
    """n requests in the order of the log, each field [n].

    `session`: the number of its first request. `time`: milliseconds since 1970.
    """

    number: Ints
    session: Ints
    user: Ints
    query: Ints
    time: Ints


class Shown(NamedTuple):
    """The result lists of n requests, each field [n, SHOWN], best first; `products` by their rows in the table."""

    products: Ints
    labels: Labels
    brands: Ints
    colours: Ints
    appeal: Floats


def chunks(settings: DemoSettings) -> int:
    """How many chunks the log has."""
    return -(-settings.events // CHUNK)


def events(shop: Shop, start: int, stop: int) -> pa.Table:
    """Chunks `start` to `stop` of the events table: `CHUNK` rows each, or what is left for the last one."""
    return pa.concat_tables([_chunk(shop, chunk) for chunk in range(start, stop)])


def _chunk(shop: Shop, chunk: int) -> pa.Table:
    requests = simulate_requests(shop, chunk)
    shown = show(shop, requests)
    done = _actions(shop, requests, shown)
    # By request, then action, then position: what a request shows comes before what it leads to.
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
    """Who asks what when in a chunk: sessions of a user, one after another, the popular queries oftener.

    A user asks in one locale.
    """
    local = np.arange(REQUESTS)
    number = chunk * REQUESTS + local
    begins = _uniform(shop, "session", number) < NEW_SESSION_SHARE
    begins[0] = True
    first = np.maximum.accumulate(np.where(begins, local, 0))
    session = number[first]
    follows = ~begins & (_uniform(shop, "reformulation", number) < REFORMULATION_SHARE)
    user = (_uniform(shop, "user", session) ** 2 * shop.settings.users).astype(np.int64)
    length = SPAN // chunks(shop.settings)
    pause = (local - first) * MINUTE + (_uniform(shop, "pause", number) * MINUTE / 2).astype(np.int64)
    time = LOG_START + chunk * length + first * length // REQUESTS + pause
    return Requests(number, session, user, _asked(shop, number, first, follows, user), time)


def _asked(shop: Shop, number: Ints, first: Ints, follows: npt.NDArray[np.bool_], user: Ints) -> Ints:
    """The query of each request: one like that of the session's first request where it `follows` that."""
    popular, related = _uniform(shop, "query", number), _uniform(shop, "related", number)
    asked = np.empty_like(number)
    for storefront, places, _ in shop.parted(user):
        zipf = _zipf(popular, storefront.intents.queries)
        query = np.where(follows, storefront.intents.like(zipf[first], related), zipf)
        asked[places] = storefront.numbers(query[places])
    return asked


def show(shop: Shop, requests: Requests) -> Shown:
    """The result list of each request: products of its query's locale."""
    parts = [
        (places, _show(shop, storefront, requests.number[places], queries))
        for storefront, places, queries in shop.parted(requests.query)
    ]
    back = np.argsort(np.concatenate([places for places, _ in parts]))
    return Shown(*(np.concatenate(field)[back] for field in zip(*(shown for _, shown in parts), strict=True)))


def _show(shop: Shop, storefront: Storefront, number: Ints, queries: Ints) -> Shown:
    catalogue = storefront.catalogue
    distinct, which = np.unique(queries, return_inverse=True)
    pool = storefront.candidates.of(storefront.intents.of(distinct), POOL)
    score = (ENGINE_SCORES[pool.labels] + APPEAL_WEIGHT * catalogue.appeal(pool.slots))[which]
    uniform = _uniform(shop, "score", number[:, None], np.arange(POOL))
    score -= ENGINE_NOISE * np.log(-np.log(uniform + 2.0**-54))
    best = np.argsort(-score, axis=1)[:, :SHOWN]
    slots, labels = pool.slots[which[:, None], best], pool.labels[which[:, None], best]
    attributes = catalogue.attributes(slots, catalogue.leaves(slots))
    rows = storefront.numbers(catalogue.rows(slots))
    return Shown(rows, labels, attributes[BRAND], attributes[COLOUR], catalogue.appeal(slots))


def _actions(shop: Shop, requests: Requests, shown: Shown) -> npt.NDArray[np.bool_]:
    """What was done with each result, bool [requests, SHOWN, actions]."""
    factor = shop.tastes.factor(requests.user[:, None], shown.brands, shown.colours, words().tiers[shown.brands])
    factor *= 1 + APPEAL_WEIGHT * shown.appeal
    positions = np.arange(1, SHOWN + 1)
    uniform = _uniform(shop, "act", np.arange(3)[:, None, None], requests.number[:, None], positions)
    actions = act(positions, shown.labels, factor, uniform)
    return np.stack([np.ones_like(actions.click), *actions], axis=-1)


def _delays(shop: Shop, requests: Requests) -> Ints:
    """Milliseconds from a request to each action, [requests, SHOWN, actions]; longer down the list and the funnel."""
    positions = np.arange(1, SHOWN + 1)
    jitter = 1 + _uniform(shop, "delay", requests.number[:, None], positions)
    click = 1_500 * positions * jitter
    return np.stack([0 * click, click, click + 15_000 * jitter, click + MINUTE * jitter], axis=-1).astype(np.int64)


def _zipf(uniform: Floats, size: int) -> Ints:
    """Ranks from 0 whose frequency falls as 1 / (rank + 1), by the inverse of the integral."""
    return np.minimum((size + 1) ** uniform, size).astype(np.int64) - 1


def _uniform(shop: Shop, name: str, *counters: npt.NDArray[np.integer]) -> Floats:
    return Draws(shop.settings.seed, f"event {name}").uniform(*counters)
