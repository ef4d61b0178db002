"""The click model and the log that it generates: nested actions, order in time, and a position bias to recover."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raylevance.data.click_model import (
    CLICK_IF_EXAMINED,
    MAX_PROBABILITY,
    attraction_probability,
    examination_probability,
    simulate_actions,
)
from raylevance.demo import DemoSettings
from raylevance.demo.events import CHUNK, POOL, SHOWN, events, simulate_requests
from raylevance.demo.shop import Shop
from raylevance.demo.users import Tastes

SETTINGS = DemoSettings(products=2000, queries=100, events=4 * CHUNK - 1000, users=300)
KEY = ["request_id", "product_id"]


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    return pa.Table.to_pandas(events(Shop(SETTINGS), 0, 4))


def test_the_log_has_the_requested_number_of_rows(log: pd.DataFrame) -> None:
    assert len(log) == SETTINGS.events


def test_each_action_follows_the_one_before(log: pd.DataFrame) -> None:
    exposed, clicked, carted, bought = (
        log[log.action == action].set_index([*KEY, "position"]) for action in ("exposure", "click", "cart", "purchase")
    )
    for earlier, later in ((exposed, clicked), (clicked, carted), (carted, bought)):
        assert len(later) > 0
        assert later.index.is_unique and later.index.isin(earlier.index).all()
        assert (earlier.timestamp.loc[later.index] < later.timestamp).all()
    assert len(exposed) > len(clicked) > len(carted) > len(bought)


def test_a_request_shows_a_page_of_different_products(log: pd.DataFrame) -> None:
    shown = log[log.action == "exposure"].groupby("request_id")
    sizes = shown.size()
    assert (sizes == SHOWN).sum() >= len(sizes) - 4, "only the last request of a chunk is cut off"
    assert (shown.position.max() == sizes).all() and (shown.position.min() == 1).all()
    assert (shown.product_id.nunique() == sizes).all()


def test_a_session_is_one_user_and_goes_forward_in_time(log: pd.DataFrame) -> None:
    requests = log[log.action == "exposure"].groupby("request_id").first()
    assert (requests.groupby("session_id").user_id.nunique() == 1).all()
    assert (requests.groupby("session_id").timestamp.apply(lambda times: times.is_monotonic_increasing)).all()
    assert 1.5 < requests.groupby("session_id").size().mean() < 4


def test_popular_queries_are_more_frequent() -> None:
    asked = np.bincount(simulate_requests(Shop(SETTINGS), 0).query, minlength=SETTINGS.queries)
    assert asked[:10].sum() > 2.5 * asked[-50:].sum()


def test_the_position_bias_can_be_recovered(log: pd.DataFrame) -> None:
    """Recover P(examined at k) / P(examined at 1) from the pairs that were shown at both positions.

    After Agarwal et al. 2019 (arXiv 1812.05161), with position 1 as the reference of all others.
    """
    wide = log.assign(click=log.action == "click").groupby([*KEY, "query_id", "position"]).click.max().reset_index()
    counts = wide.groupby(["query_id", "product_id", "position"]).click.agg(["sum", "count"])
    clicks, shown = (counts[name].unstack(fill_value=0) for name in ("sum", "count"))
    for position in (2, 3, 5):
        weight = np.minimum(shown[1], shown[position])
        both = weight > 0
        rates = [(weight * clicks[k] / shown[k])[both].sum() for k in (1, position)]
        assert rates[1] / rates[0] == pytest.approx(examination_probability(np.array([position]))[0], rel=0.15)


def test_clicks_have_the_rate_of_the_model() -> None:
    draws = np.random.default_rng(0).random((3, 400_000))
    labels = np.zeros(400_000, np.int8)
    actions = simulate_actions(np.full(400_000, 4), labels, np.ones(400_000), draws)
    assert actions.click.mean() == pytest.approx(CLICK_IF_EXAMINED[0] / 4, rel=0.03)
    assert (actions.cart <= actions.click).all() and (actions.purchase <= actions.cart).all()


def test_examination_falls_with_position_and_attraction_is_a_probability() -> None:
    assert (
        np.all(np.diff(examination_probability(np.arange(1, 50))) < 0)
        and examination_probability(np.array([1]))[0] == 1
    )
    assert attraction_probability(np.zeros(1, np.int8), np.array([100.0]))[0] == MAX_PROBABILITY


def test_tastes_depend_on_the_user() -> None:
    users, brands, colours, tiers = np.arange(200)[:, None], np.arange(60), np.arange(60) % 20, np.arange(60) % 3
    factor = Tastes(0).factor(users, brands, colours, tiers)
    assert np.array_equal(factor, Tastes(0).factor(users, brands, colours, tiers))
    assert len(np.unique(factor.round(6), axis=0)) == 200
    assert 0.5 < factor.mean() < 1.5


def test_better_products_get_more_clicks_at_the_same_position(log: pd.DataFrame) -> None:
    [storefront] = Shop(SETTINGS).storefronts
    intent = storefront.intents.of_queries(np.arange(SETTINGS.queries))
    slots, labels = storefront.candidates.for_intent(intent, POOL)
    grades = pd.Series(
        labels.ravel(),
        pd.MultiIndex.from_arrays([np.repeat(intent.queries, POOL), storefront.catalogue.rows(slots.ravel())]),
    )
    pairs = pd.MultiIndex.from_arrays([log.query_id.str[1:].astype(int), log.product_id.str[1:].astype(int)])
    labelled = log.assign(label=grades.loc[pairs].to_numpy())
    top = labelled[labelled.position == 1]
    rate = top[top.action == "click"].groupby("label").size() / top[top.action == "exposure"].groupby("label").size()
    assert rate[0] > rate[1] > rate[2]
