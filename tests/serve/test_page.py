"""The search page in a real Chromium, before a real server of the small shop."""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from raylevance.client.messages import (
    Answer,
    Answers,
    Classification,
    EventBatch,
    Hit,
    Label,
    Problem,
    Recommendations,
    RecommendedItem,
)
from serve.api import build_api
from serve.app import pin_versions
from serve.feedback import Feedback
from serve.metrics import Metrics
from serve.models import LocalModels
from serve.service import Service
from serve.settings import ServeSettings
from serve.tokens import Tokens, add_token

QUERY = "red running shoes"
MARKUP = '<img src="x" onerror="window.ran = true"><b>bold</b>'
GRADES = {2: "Relevant", 1: "Moderately relevant", 0: "Not relevant", None: "No grade"}
MODES = ("hybrid", "dense", "lexical")
LIGHT_GROUND, DARK_GROUND = "rgb(247, 247, 245)", "rgb(19, 21, 24)"


def build(shop: Any, feedback: Feedback | None = None, tokens: Tokens | None = None) -> FastAPI:
    settings = ServeSettings(store=str(shop.root), index="index/shop")
    metrics = Metrics()
    service = Service(settings, pin_versions(settings), LocalModels(settings.store), metrics)
    return build_api(service, metrics, settings, tokens=tokens, feedback=feedback)


@contextmanager
def running(api: FastAPI) -> Iterator[str]:
    """Run `api` on a free port; yield its address."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def server(shop: Any) -> Iterator[str]:
    feedback = Feedback(shop.root)
    with running(build(shop, feedback)) as address:
        yield address
    feedback.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("RAYLEVANCE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium), or set RAYLEVANCE_CHROMIUM to its path")
    # Chromium refuses to run as root with its sandbox.
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=arguments)
        yield chromium
        chromium.close()


class Visit:
    """A page of the browser, with what went wrong in it: console errors (also of its CSP), and requests elsewhere."""

    def __init__(self, browser: Browser, server: str, **options: Any) -> None:
        self.server = server
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.set_default_timeout(20_000)

    def _note(self, url: str) -> None:
        if not url.startswith(f"{self.server}/"):
            self.elsewhere.append(url)

    def open(self, query: str = "", mode: str = "hybrid") -> Page:
        """Open the page at a shared link, and wait until it has answered."""
        self.page.goto(f"{self.server}/?q={quote(query)}&mode={mode}" if query else f"{self.server}/")
        expect(self.page.locator("#results > *")).not_to_have_count(0)
        expect(self.page.locator("#versions summary")).to_be_visible()
        return self.page

    def answer(self, route: str, make: Callable[[dict[str, Any]], Any], status: int = 200) -> None:
        """Answer requests to `route` with the message that `make` makes of their bodies, in place of the server."""

        def fulfill(found: Route) -> None:
            message = make(found.request.post_data_json)
            kind = "application/problem+json" if isinstance(message, Problem) else "application/json"
            found.fulfill(status=status, content_type=kind, body=message.model_dump_json())

        self.page.route(f"**/v1/{route}", fulfill)

    def refused(self, *statuses: int) -> None:
        """Take the browser's own lines about refused requests, which must be of `statuses`, from the errors."""
        lines = [line for line in self.errors if line.startswith("Failed to load resource")]
        assert {int(found) for line in lines for found in re.findall(r"status of (\d+)", line)} == set(statuses)
        self.errors = [line for line in self.errors if line not in lines]


@pytest.fixture
def visit(browser: Browser, server: str) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def start(at: str = server, **options: Any) -> Visit:
        visits.append(Visit(browser, at, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()
        assert each.errors == []
        assert each.elsewhere == []


def post(server: str, route: str, **request: Any) -> dict[str, Any]:
    response = httpx.post(f"{server}/v1/{route}", json=request, timeout=60)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def titles(page: Page, within: str = "#results") -> list[str]:
    return page.locator(f"{within} .title").all_inner_texts()


def focused(page: Page) -> str:
    """The text of what has the focus, or its id."""
    text: str = page.evaluate("document.activeElement.innerText || document.activeElement.id")
    return text


def widest(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width


def a_hit(number: int, **fields: Any) -> Hit:
    usual = {"title": f"Product {number}", "brand": "Acme", "category": ["Home"], "score": 1.0, "grade": 2}
    scores = {"dense_score": 0.5, "lexical_score": 2.0}
    return Hit.model_validate({"product_id": f"P{number}", **usual, **scores, **fields})


def an_answer(server: str, request: dict[str, Any], *hits: Hit) -> Answer:
    versions = post(server, "search", query="lamp", k=1)["versions"]
    of_request = {"query": request["query"], "mode": request["mode"]}
    return Answer(query_id="q1", took_ms=1.0, versions=versions, hits=list(hits), **of_request)


def a_problem(status: int, detail: str, code: str = "unavailable") -> Problem:
    return Problem(title="Service Unavailable", status=status, detail=detail, code=code, request_id="6f1c0b")


@pytest.mark.parametrize("mode", MODES)
def test_a_search_shows_the_servers_hits_in_order(visit: Callable[..., Visit], server: str, mode: str) -> None:
    page = visit().open()
    assert focused(page) == "query"
    page.get_by_text(mode.capitalize(), exact=True).click()
    page.get_by_role("searchbox").fill(QUERY)
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(20)
    hits = post(server, "search", query=QUERY, mode=mode, k=20)["hits"]
    assert titles(page) == [hit["title"] for hit in hits]
    assert page.locator(".grade").all_inner_texts() == [GRADES[hit["grade"]] for hit in hits]
    digits = 2 if mode == "lexical" else 3
    assert page.locator(".score").all_inner_texts() == [f"score {hit['score']:.{digits}f}" for hit in hits]
    about = [[hit["brand"], " › ".join(hit["category"])] for hit in hits]
    shown = page.locator(".about").evaluate_all("all => all.map(each => [...each.children].map(part => part.innerText))")
    assert shown == [[part for part in parts if part] for parts in about]
    expect(page.get_by_role("status")).to_have_text(re.compile(r"^20 products · [\d.]+ ms on the server, [\d.]+ ms"))


def test_the_address_holds_query_and_mode(visit: Callable[..., Visit]) -> None:
    page = visit().open("desk lamp", "dense")
    assert titles(page)[0].lower().find("lamp") > 0
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


def test_keys(visit: Callable[..., Visit]) -> None:
    page = visit().open(QUERY)
    shown = titles(page)
    page.keyboard.press("ArrowDown")
    assert focused(page) == shown[0]
    for key in ("j", "ArrowDown", "k", "j"):
        page.keyboard.press(key)
    assert focused(page) == shown[2]
    page.keyboard.press("m")
    expect(page.locator(".hit").nth(2).locator(".similar li")).not_to_have_count(0)
    page.keyboard.press("w")
    expect(page.locator(".hit").nth(2).locator(".why")).to_be_visible()
    assert page.locator(".panel").count() == 1
    page.keyboard.press("Escape")
    expect(page.locator(".panel")).to_have_count(0)
    assert focused(page) == shown[2]
    page.keyboard.press("/")
    assert focused(page) == "query"
    page.keyboard.type("j?")  # In the box these are letters.
    expect(page.get_by_role("searchbox")).to_have_value("j?")
    page.keyboard.press("Escape")
    expect(page.locator(".hit")).to_have_count(0)
    expect(page.get_by_role("searchbox")).to_have_value("")
    assert urlsplit(page.url).query == ""
    page.get_by_role("radio", name="Hybrid").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_side_by_side_has_the_rank_of_a_product_in_the_other_lists(visit: Callable[..., Visit], server: str) -> None:
    page = visit().open(QUERY, "compare")
    lists = {mode: post(server, "search", query=QUERY, mode=mode, k=10)["hits"] for mode in MODES}
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


def test_why_here(visit: Callable[..., Visit], server: str) -> None:
    page = visit().open(QUERY)
    hits = post(server, "search", query=QUERY, mode="hybrid", k=20, explain=True)["hits"]
    place = next(place for place, hit in enumerate(hits) if hit["lexical_score"])
    hit, shown = hits[place], page.locator(".hit").nth(place)
    shown.get_by_role("button", name="Why here").click()
    facts = shown.locator(".why > div").all_inner_texts()
    assert re.sub(r"\s+", " ", facts[0]) == f"Cosine {hit['dense_score']:.3f}"
    assert re.sub(r"\s+", " ", facts[1]) == f"BM25 {hit['lexical_score']:.2f}"
    assert shown.locator("mark").all_inner_texts() == hit["explanation"]["words"]
    assert len(hit["explanation"]["words"]) > 0
    expect(shown.get_by_role("button", name="Why here")).to_have_attribute("aria-expanded", "true")
    page.get_by_text("Lexical", exact=True).click()
    expect(page.locator("[data-mode=lexical]")).to_be_visible()
    page.locator(".hit").first.get_by_role("button", name="Why here").click()
    expect(page.locator(".why")).to_contain_text("not computed in lexical mode")


def test_more_like_this_without_a_table_of_items_says_so(visit: Callable[..., Visit], server: str) -> None:
    page = visit().open(QUERY)
    [hit, *_] = post(server, "search", query=QUERY, k=1)["hits"]
    page.locator(".hit").first.get_by_role("button", name="More like this").click()
    expect(page.locator(".panel")).to_contain_text("has no table of items: a dense search for its title")
    like = post(server, "search", query=hit["title"], mode="dense", k=7)["hits"]
    expected = [other["title"] for other in like if other["product_id"] != hit["product_id"]][:6]
    assert page.locator(".similar a").all_inner_texts() == expected
    page.locator(".similar a").first.click()
    expect(page.get_by_role("searchbox")).to_have_value(expected[0])
    expect(page.locator(".title").first).to_have_text(expected[0])


def test_categories_scorer_and_items_where_they_are_served(visit: Callable[..., Visit], server: str) -> None:
    visited = visit()
    reply = {"query_id": "q", "took_ms": 1.0}
    versions = post(server, "search", query="lamp", k=1)["versions"]
    versions |= {"classifier": "classifier/query@1", "scorer": "scorer/a@1", "items": "table/items@1"}
    labels = [Label(label="h", probability=0.914, path=["Home", "Garden"])]
    tasks = {"category": labels, "brand": []}

    def explained(request: dict[str, Any]) -> Answer:
        why = {"words": ["hose"], "relevance": 0.87} if request.get("explain") else None
        return an_answer(server, request, a_hit(1, explanation=why)).model_copy(update={"versions": versions})

    def recommended(request: dict[str, Any]) -> Recommendations:
        assert request["triggers"] == [{"product_id": "P1"}]
        item = RecommendedItem(product_id="P9", score=0.5, trigger="P1", title=None, brand=None, category=None)
        return Recommendations(items=[item], unknown=[], versions=versions, **reply)

    visited.page.route(
        "**/v1/versions", lambda route: route.fulfill(json=httpx.get(f"{server}/v1/versions").json() | versions)
    )
    visited.answer("classify", lambda body: Classification(query=body["query"], tasks=tasks, versions=versions, **reply))
    visited.answer("search", explained)
    visited.answer("recommend", recommended)
    page = visited.open("hose")
    expect(page.get_by_role("group", name="Predicted categories")).to_contain_text("Home › Garden 91%")
    assert page.locator(".chip").count() == 1
    page.get_by_role("button", name="Why here").click()
    expect(page.locator(".why")).to_contain_text("87%")
    page.get_by_role("button", name="More like this").click()
    expect(page.locator(".similar a")).to_have_text("P9")
    page.locator("#versions summary").click()
    for version in versions.values():
        if version:
            expect(page.get_by_role("contentinfo")).to_contain_text(version)


def test_a_late_answer_does_not_replace_a_newer_one(visit: Callable[..., Visit]) -> None:
    visited = visit()
    page = visited.open()
    held: list[Route] = []
    page.route("**/v1/search", lambda route: held.append(route) if not held else route.continue_())
    page.get_by_role("searchbox").fill("desk lamp")
    with page.expect_event("requestfailed") as failed:
        page.keyboard.press("Enter")
        page.get_by_role("searchbox").fill("garden hose")
        page.keyboard.press("Enter")
        expect(page.locator(".title").first).to_contain_text("hose")
    assert json.loads(failed.value.post_data or "")["query"] == "desk lamp"
    assert failed.value.failure == "net::ERR_ABORTED"
    expect(page.get_by_role("searchbox")).to_have_value("garden hose")
    assert all("lamp" not in title for title in titles(page)[:4])


def test_a_slow_search_shows_that_it_is_under_way(visit: Callable[..., Visit]) -> None:
    visited = visit()
    page = visited.open()
    page.clock.install()
    page.clock.pause_at(time.time() + 3600)
    held: list[Route] = []
    page.route("**/v1/search", held.append)
    page.get_by_role("searchbox").fill("desk lamp")
    with page.expect_request("**/v1/search"):
        page.keyboard.press("Enter")
    page.clock.run_for(140)
    expect(page.locator("#progress")).to_be_hidden()
    page.clock.run_for(20)
    expect(page.locator("#progress")).to_be_visible()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("status")).to_have_text("Searching…")
    held[0].continue_()
    expect(page.locator(".title").first).to_contain_text("lamp")
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def test_failures_are_shown_with_their_request_id(visit: Callable[..., Visit]) -> None:
    visited = visit()
    page = visited.page
    with page.expect_response("**/v1/search") as response:
        visited.open("x" * 600)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(response.value.json()["detail"])
    expect(alert).to_contain_text(response.value.headers["x-request-id"])
    visited.refused(422)
    visited.answer("search", lambda _: a_problem(503, "the encoder does not answer; try again in 2 s"), 503)
    visited.open("lamp")
    expect(alert).to_contain_text("the encoder does not answer; try again in 2 s")
    expect(alert).to_contain_text("6f1c0b")
    visited.refused(503)
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".hit")).to_have_count(20)
    page.route("**/v1/search", lambda route: route.abort())
    page.get_by_text("Dense", exact=True).click()
    expect(alert).to_contain_text("The server cannot be reached")
    assert page.locator(".hit").count() == 0
    visited.refused()


def test_a_token_is_asked_for_and_kept_in_this_tab_only(
    visit: Callable[..., Visit], shop: Any, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    token = add_token(file, "shop", ("search",))
    with closing(Feedback(tmp_path)) as feedback, running(build(shop, feedback, Tokens(str(file)))) as guarded:
        visited = visit(guarded)
        page = visited.page
        page.goto(f"{guarded}/?q=lamp")
        field = page.get_by_label("Access token")
        expect(field).to_be_focused()
        expect(field).to_have_attribute("type", "password")
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(field).to_be_focused()
        expect(field).to_have_value("")
        expect(page.locator("#access-reason")).to_contain_text("token")
        visited.refused(401)
        field.fill(token)
        with page.expect_request("**/v1/search") as request:
            page.keyboard.press("Enter")
        assert request.value.headers["authorization"] == f"Bearer {token}"
        expect(page.locator(".hit")).to_have_count(20)
        expect(field).to_be_hidden()
        assert token in page.evaluate("Object.values(sessionStorage)")
        assert token not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        page.reload()
        expect(page.locator(".hit")).to_have_count(20)
        page.get_by_role("button", name="Forget token").click()
        expect(field).to_be_focused()
        assert token not in page.evaluate("Object.values(sessionStorage)")
        expect(page.locator(".hit")).to_have_count(0)
        visited.refused(401)


def test_what_the_server_sends_is_text(visit: Callable[..., Visit], server: str) -> None:
    visited = visit()
    evil = a_hit(1, title=MARKUP, brand=MARKUP, category=[MARKUP], explanation={"words": [MARKUP], "relevance": None})
    visited.answer("search", lambda body: an_answer(server, body, evil, a_hit(2, title=MARKUP)))
    page = visited.open(MARKUP)
    assert titles(page) == [MARKUP] * 2
    page.locator(".hit").first.get_by_role("button", name="Why here").click()
    expect(page.locator("mark")).to_have_text(MARKUP)
    page.locator(".hit").nth(1).get_by_role("button", name="More like this").click()
    expect(page.locator(".similar a")).to_have_text(MARKUP)
    assert page.locator("#results :is(img, b)").count() == 0
    visited.answer("search", lambda body: an_answer(server, body))
    page.get_by_text("Dense", exact=True).click()
    expect(page.get_by_text("No product found for")).to_contain_text(MARKUP)
    visited.answer("search", lambda _: a_problem(500, MARKUP), 500)
    page.get_by_text("Lexical", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text(MARKUP)
    assert page.evaluate("window.ran") is None
    assert page.locator("main img").count() == 0
    visited.refused(500)


def test_exposures_and_clicks_are_sent(visit: Callable[..., Visit]) -> None:
    visited = visit(viewport={"width": 1280, "height": 620})
    page = visited.page
    with page.expect_response("**/v1/search") as answered, page.expect_response("**/v1/events") as kept:
        visited.open(QUERY)
    answer = Answer.model_validate_json(answered.value.text())
    ids = [hit.product_id for hit in answer.hits]
    exposures = EventBatch.model_validate_json(kept.value.request.post_data or "").events
    assert kept.value.json() == {"accepted": len(exposures), "repeated": 0}
    assert {event.action_name for event in exposures} == {"exposure"}
    assert {event.query_id for event in exposures} == {answer.query_id}
    seen = [(event.event_attributes.object.object_id, event.event_attributes.position) for event in exposures]
    assert 1 <= len(seen) < 10, "only what is on the screen was seen"
    assert [(ids.index(product_id) + 1) for product_id, _ in seen] == [place.ordinal for _, place in seen if place]
    with page.expect_request("**/v1/events") as sent:
        page.locator(".title").nth(1).click()
    [click] = [event for event in json.loads(sent.value.post_data or "")["events"] if event["action_name"] == "click"]
    assert click["event_attributes"] == {"object": {"object_id": ids[1]}, "position": {"ordinal": 2}}
    assert click["query_id"] == answer.query_id
    assert click["session_id"] == exposures[0].session_id != click["client_id"]
    assert len({event.event_id for event in exposures} | {click["event_id"]}) == len(exposures) + 1


def test_events_that_nobody_takes_are_not_sent_again(visit: Callable[..., Visit]) -> None:
    visited = visit()
    asked: list[str] = []
    visited.page.on("request", lambda request: asked.append(request.url) if "/v1/events" in request.url else None)
    visited.answer("events", lambda _: a_problem(404, "no events are kept", "not_served"), 404)
    page = visited.page
    with page.expect_response("**/v1/events"):
        visited.open(QUERY)
    page.locator(".title").first.click()
    page.mouse.wheel(0, 900)
    page.wait_for_timeout(1500)
    assert len(asked) == 1
    visited.refused(404)


@pytest.mark.parametrize(("scheme", "ground"), [("light", LIGHT_GROUND), ("dark", DARK_GROUND)])
def test_it_is_accessible_and_fits_a_phone(
    visit: Callable[..., Visit], server: str, scheme: str, ground: str
) -> None:
    """Every view passes axe (labels, names, roles, contrast, headings), and none is wider than a small phone."""
    visited = visit(viewport={"width": 360, "height": 740}, color_scheme=scheme)

    def check(page: Page) -> None:
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.locator("h1").count() == 1
        assert widest(page) == 360

    page = visited.open()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    check(page)
    for mode in ("hybrid", "lexical", "compare"):
        page = visited.open(QUERY, mode)
        page.locator("[data-action=why]").first.click()
        page.locator("[data-action=more]").nth(1).click()
        expect(page.locator(".why")).to_be_visible()
        expect(page.locator(".similar")).to_be_visible()
        page.locator("#versions summary").click()
        check(page)
    long = a_hit(1, title="W" * 300, brand="B" * 200, category=["C" * 200], grade=1)
    visited.answer("search", lambda body: an_answer(server, body, long, a_hit(2, grade=0), a_hit(3, grade=None)))
    check(visited.open("q" * 500))
    visited.answer("search", lambda _: a_problem(503, "d" * 400), 503)
    check(visited.open("lamp"))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Keys").click()
    check(page)
    visited.refused(503)


def test_pictures(visit: Callable[..., Visit], tmp_path: Path) -> None:
    """The pictures of docs/pictures, which RAYLEVANCE_PICTURES=docs/pictures writes there, are of a full page."""
    folder = Path(os.environ.get("RAYLEVANCE_PICTURES", tmp_path))
    phone = {"viewport": {"width": 390, "height": 844}}
    for name, mode, options in (
        ("light", "hybrid", {}),
        ("dark", "hybrid", {"color_scheme": "dark"}),
        ("phone", "hybrid", phone),
        ("side_by_side", "compare", {}),
    ):
        page = visit(**options).open(QUERY, mode)
        if mode == "hybrid":
            page.locator(".hit").nth(1).get_by_role("button", name="Why here").click()
            expect(page.locator(".why")).to_be_visible()
        file = folder / f"page_{name}.png"
        page.screenshot(path=file)
        assert file.stat().st_size > 20_000, "an empty page is smaller"
