"""The search page in a real Chromium, before a real server of the small shop."""

import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect

from raylevance.client.messages import Answer, EventBatch
from tests.serve.page.chromium import Visit, focused, post, titles

QUERY = "red running shoes"
GRADES = {2: "Relevant", 1: "Moderately relevant", 0: "Not relevant", None: "No grade"}
MODES = ("hybrid", "dense", "lexical")
TOOK = re.compile(r"^20 products · [\d.]+ m?s on the server, [\d.]+ m?s in all$")
EACH_PART = "all => all.map(each => [...each.children].map(part => part.innerText))"

Visits = Callable[..., Visit]


@pytest.mark.parametrize("mode", MODES)
def test_a_search_shows_the_servers_hits_in_order(visit: Visits, full_server: str, mode: str) -> None:
    page = visit().open()
    assert focused(page) == "query"
    page.keyboard.type(QUERY)
    page.keyboard.press("Enter")
    expect(page.locator("[data-mode=hybrid] .hit")).to_have_count(20)
    page.get_by_text(mode.capitalize(), exact=True).click()
    expect(page.locator(f"[data-mode={mode}] .hit")).to_have_count(20)
    hits = post(full_server, "search", query=QUERY, mode=mode, k=20)["hits"]
    assert titles(page) == [hit["title"] for hit in hits]
    assert page.locator(".grade").all_inner_texts() == [GRADES[hit["grade"]] for hit in hits]
    digits = 2 if mode == "lexical" else 3
    assert page.locator(".score").all_inner_texts() == [f"score {hit['score']:.{digits}f}" for hit in hits]
    about = [[hit["brand"], " › ".join(hit["category"])] for hit in hits]
    shown = page.locator(".about").evaluate_all(EACH_PART)
    assert shown == [[part for part in parts if part] for parts in about]
    expect(page.get_by_role("status")).to_have_text(TOOK)


def test_the_address_holds_query_and_mode(visit: Visits) -> None:
    page = visit().open("desk lamp", "dense")
    expect(page.locator(".title").first).to_contain_text("lamp")
    expect(page.get_by_role("radio", name="Dense")).to_be_checked()
    page.get_by_role("searchbox").fill("garden hose & kettle")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=garden+hose+%26+kettle&mode=dense")
    page.get_by_text("Lexical", exact=True).click()
    page.wait_for_url("**/?q=garden+hose+%26+kettle&mode=lexical")
    assert page.title() == "garden hose & kettle · raylevance"
    page.go_back()
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("desk lamp")
    expect(page.locator(".title").first).to_contain_text("lamp")
    expect(page.get_by_role("radio", name="Dense")).to_be_checked()
    page.go_forward()
    expect(page.get_by_role("searchbox")).to_have_value("garden hose & kettle")
    page.get_by_role("link", name="raylevance").click()
    expect(page.get_by_text("Search the catalogue")).to_be_visible()
    assert urlsplit(page.url)[2:] == ("/", "", "")


def test_a_change_of_mode_searches_for_what_is_in_the_box(visit: Visits) -> None:
    page = visit().open("desk lamp")
    page.get_by_role("searchbox").fill("garden hose")
    page.get_by_text("Dense", exact=True).click()
    expect(page.locator("[data-mode=dense] .title").first).to_contain_text("hose")
    assert "q=garden" in page.url and "mode=dense" in page.url


def test_keys(visit: Visits) -> None:
    page = visit().open(QUERY)
    shown = titles(page)
    page.keyboard.press("ArrowDown")
    assert focused(page) == shown[0]
    for key in ("j", "ArrowDown", "k", "j"):
        page.keyboard.press(key)
    assert focused(page) == shown[2]
    third = page.locator(".hit").nth(2)
    page.keyboard.press("m")
    expect(third.locator(".similar li")).not_to_have_count(0)
    page.keyboard.press("w")
    expect(third.locator(".why")).to_be_visible()
    assert page.locator(".panel").count() == 1
    page.keyboard.press("Escape")
    expect(page.locator(".panel")).to_have_count(0)
    assert focused(page) == shown[2]
    page.keyboard.press("Enter")
    expect(third.locator(".similar li")).not_to_have_count(0)
    page.keyboard.press("/")
    assert focused(page) == "query"
    page.keyboard.type("j?")  # In the box these are letters, in place of what was selected.
    expect(page.get_by_role("searchbox")).to_have_value("j?")
    page.keyboard.press("Escape")
    expect(page.locator(".hit")).to_have_count(0)
    expect(page.get_by_role("searchbox")).to_have_value("")
    assert focused(page) == "query"
    assert urlsplit(page.url).query == ""
    page.get_by_role("radio", name="Hybrid").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Dense")).to_be_checked()


def test_side_by_side_has_the_rank_of_a_product_in_the_other_lists(visit: Visits, full_server: str) -> None:
    page = visit().open(QUERY, "compare")
    lists = {mode: post(full_server, "search", query=QUERY, mode=mode, k=10)["hits"] for mode in MODES}
    ids = {mode: [hit["product_id"] for hit in hits] for mode, hits in lists.items()}
    assert set(ids["dense"]) != set(ids["lexical"]), "the lists must differ for this test to say anything"
    for mode, hits in lists.items():
        column = page.get_by_role("region", name=mode.capitalize())
        assert column.locator(".title").all_inner_texts() == [hit["title"] for hit in hits]
        for place, product_id in enumerate(ids[mode]):
            for other in (other for other in MODES if other != mode):
                rank = f"rank {ids[other].index(product_id) + 1}." if product_id in ids[other] else "not in the first"
                where = column.locator(".hit").nth(place).locator(".elsewhere")
                expect(where).to_contain_text(f"{other.capitalize()}: {rank}")
    both = next(product_id for product_id in ids["hybrid"] if product_id in ids["dense"])
    page.locator(f'[data-mode=hybrid] [data-product="{both}"] .title').focus()
    expect(page.locator(f'[data-mode=dense] [data-product="{both}"]')).to_have_class(re.compile("same"))
    page.keyboard.press("ArrowRight")
    assert focused(page) == lists["dense"][ids["hybrid"].index(both)]["title"]
    expect(page.get_by_role("status")).to_contain_text("10 products a list")


def test_why_here(visit: Visits, full_server: str) -> None:
    page = visit().open(QUERY)
    hits = post(full_server, "search", query=QUERY, mode="hybrid", k=20, explain=True)["hits"]
    place = next(place for place, hit in enumerate(hits) if hit["lexical_score"])
    hit, shown = hits[place], page.locator(".hit").nth(place)
    shown.get_by_role("button", name="Why here").click()
    expect(shown.get_by_role("button", name="Why here")).to_have_attribute("aria-expanded", "true")
    expect(shown.get_by_role("button", name="More like this")).to_have_attribute("aria-expanded", "false")
    expect(shown.locator(".why dd").nth(0)).to_have_text(f"{hit['dense_score']:.3f}")
    expect(shown.locator(".why dd").nth(1)).to_have_text(f"{hit['lexical_score']:.2f}")
    assert len(hit["explanation"]["words"]) > 0
    assert shown.locator("mark").all_inner_texts() == hit["explanation"]["words"]
    expect(shown.locator(".why dd").nth(3)).to_have_text(re.compile(r"^[\d.]+%$"))
    percent = float(shown.locator(".why dd").nth(3).inner_text().removesuffix("%"))
    assert percent == pytest.approx(100 * hit["explanation"]["relevance"], abs=0.51)
    page.get_by_text("Lexical", exact=True).click()
    page.locator("[data-mode=lexical] .hit").first.get_by_role("button", name="Why here").click()
    expect(page.locator(".why")).to_contain_text("not computed in lexical mode")


def test_more_like_this_recommends_items(visit: Visits, full_server: str) -> None:
    page = visit().open(QUERY)
    [hit] = post(full_server, "search", query=QUERY, k=1)["hits"]
    items = post(full_server, "recommend", triggers=[{"product_id": hit["product_id"]}], k=6)["items"]
    page.locator(".hit").first.get_by_role("button", name="More like this").click()
    expect(page.locator(".panel")).to_contain_text("What shoppers choose next to it")
    assert page.locator(".similar a").all_inner_texts() == [item["title"] for item in items]
    assert len(items) == 6


def test_what_is_not_served_is_not_shown_and_not_asked_for(visit: Visits, plain_server: str) -> None:
    visited = visit(plain_server)
    asked: list[str] = []
    visited.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    page = visited.open(QUERY)
    [hit] = post(plain_server, "search", query=QUERY, k=1)["hits"]
    page.locator(".title").first.click()
    expect(page.locator(".panel")).to_contain_text("This server has no table of items: a dense search for its title")
    like = post(plain_server, "search", query=hit["title"], mode="dense", k=7)["hits"]
    expected = [other["title"] for other in like if other["product_id"] != hit["product_id"]][:6]
    assert page.locator(".similar a").all_inner_texts() == expected
    page.locator(".hit").nth(1).get_by_role("button", name="Why here").click()
    expect(page.locator(".why")).to_contain_text("this server has none")
    page.locator(".similar a").first.click()
    expect(page.get_by_role("searchbox")).to_have_value(expected[0])
    expect(page.locator(".title").first).to_have_text(expected[0])
    page.wait_for_timeout(1500)  # Events would be sent after a second.
    expect(page.get_by_role("group", name="Predicted categories")).to_be_hidden()
    assert not {"/v1/classify", "/v1/recommend", "/v1/events"} & set(asked)


def test_predicted_categories_and_versions(visit: Visits, full_server: str) -> None:
    page = visit().open("garden hose")
    tasks = post(full_server, "classify", query="garden hose", k=3)["tasks"]
    expected = [
        f"{' › '.join(label['path'])} {100 * label['probability']:.{1 if label['probability'] < 0.1 else 0}f}%"
        for labels in tasks.values()
        for label in labels
    ]
    assert len(expected) > 0
    expect(page.get_by_role("group", name="Predicted categories")).to_be_visible()
    assert page.locator(".chip").all_inner_texts() == expected
    held: list[Route] = []
    page.route("**/v1/classify", lambda route: held.append(route))
    page.get_by_role("searchbox").fill("desk lamp")
    page.keyboard.press("Enter")
    expect(page.locator(".title").first).to_contain_text("lamp")
    expect(page.get_by_role("group", name="Predicted categories")).to_be_hidden()
    page.go_back()
    expect(page.get_by_role("group", name="Predicted categories")).to_be_visible()
    assert page.locator(".chip").all_inner_texts() == expected
    page.locator("#versions summary").click()
    versions = post(full_server, "search", query="garden hose")["versions"]
    shown = dict(page.locator("#versions dl > div").evaluate_all(EACH_PART))
    assert shown.pop("since")
    assert shown == {name: found for name, found in versions.items() if found and name != "raylevance"}
    expect(page.get_by_role("contentinfo")).to_contain_text(f"raylevance {versions['raylevance']}")


def test_exposures_and_clicks_are_sent(visit: Visits) -> None:
    visited = visit(viewport={"width": 1280, "height": 620})
    page = visited.page
    with page.expect_response("**/v1/search") as answered, page.expect_response("**/v1/events") as kept:
        visited.open(QUERY)
    answer = Answer.model_validate_json(answered.value.text())
    ids = [hit.product_id for hit in answer.hits]
    exposures = EventBatch.model_validate_json(kept.value.request.post_data or "").events
    assert kept.value.json() == {"accepted": len(exposures), "repeated": 0}
    assert {(event.action_name, event.query_id) for event in exposures} == {("exposure", answer.query_id)}
    seen = [(event.event_attributes.object.object_id, event.event_attributes.position) for event in exposures]
    assert 1 <= len(seen) < 10, "only what is on the screen was seen"
    assert [ids.index(product_id) + 1 for product_id, _ in seen] == [place.ordinal for _, place in seen if place]
    with page.expect_request("**/v1/events") as sent:
        page.locator(".title").nth(1).click()
    [click] = [event for event in json.loads(sent.value.post_data or "")["events"] if event["action_name"] == "click"]
    assert click["event_attributes"] == {"object": {"object_id": ids[1]}, "position": {"ordinal": 2}}
    assert click["query_id"] == answer.query_id
    assert click["session_id"] == exposures[0].session_id != click["client_id"]
    assert len({event.event_id for event in exposures} | {click["event_id"]}) == len(exposures) + 1
