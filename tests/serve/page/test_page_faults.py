"""The search page when something is late, wrong or hostile, in a real Chromium; and for everyone who uses it."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from raylevance.tokens import Tokens, add_token
from serve.api import build_api
from serve.feedback import Feedback
from serve.settings import LimitSettings
from tests.serve.page.chromium import Visit, a_hit, a_problem, an_answer, running, titles

MARKUP = '<img src="x" onerror="window.ran = true"><b>bold</b>'
LIGHT_GROUND, DARK_GROUND = "rgb(247, 247, 245)", "rgb(19, 21, 24)"

Visits = Callable[..., Visit]


def test_a_late_answer_does_not_replace_a_newer_one(visit: Visits) -> None:
    page = visit().open()
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
    assert all("hose" in title for title in titles(page)[:4])


def test_a_slow_search_shows_that_it_is_under_way(visit: Visits) -> None:
    page = visit().open()
    page.clock.install()
    page.clock.pause_at(time.time() + 3600)
    held: list[Route] = []
    page.route("**/v1/search", lambda route: held.append(route))
    page.get_by_role("searchbox").fill("desk lamp")
    with page.expect_request("**/v1/search"):
        page.keyboard.press("Enter")
    page.clock.run_for(140)
    expect(page.locator("#progress")).to_be_hidden()
    page.clock.run_for(20)
    expect(page.locator("#progress")).to_be_visible()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("status")).to_have_text("Searching…")
    page.clock.resume()
    held[0].continue_()
    expect(page.locator(".title").first).to_contain_text("lamp")
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def test_nothing_found(visit: Visits) -> None:
    page = visit().open("zzzz", "lexical")
    expect(page.get_by_text("No product found for “zzzz”")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("No product found")
    page.get_by_role("button", name="Search in dense mode").click()
    page.wait_for_url("**/?q=zzzz&mode=dense")
    expect(page.locator(".hit")).to_have_count(20)
    assert page.get_by_text("No product found").count() == 0


def test_failures_are_shown_with_their_request_id(visit: Visits) -> None:
    visited = visit()
    page = visited.page
    with page.expect_response("**/v1/search") as response:
        visited.open("x" * 600)
    alert = page.get_by_role("alert")
    assert response.value.status == 422
    expect(alert).to_contain_text(response.value.json()["detail"])
    expect(alert).to_contain_text(response.value.headers["x-request-id"])
    visited.errors.clear()
    visited.answer("search", lambda _: a_problem(503, "the encoder does not answer; try again in 2 s"), 503)
    visited.open("lamp")
    expect(alert).to_contain_text("the encoder does not answer; try again in 2 s")
    expect(alert).to_contain_text("6f1c0b")
    visited.refused(503)
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".hit")).to_have_count(20)
    page.route("**/v1/search", lambda route: route.fulfill(status=502, body="<html>Bad gateway</html>"))
    page.get_by_text("Dense", exact=True).click()
    expect(alert).to_contain_text("The server answered v1/search with status 502 and no description.")
    assert page.locator(".hit").count() == 0
    visited.refused(502)
    page.route("**/v1/search", lambda route: route.abort())
    page.get_by_text("Lexical", exact=True).click()
    expect(alert).to_contain_text("The server cannot be reached")
    visited.refused()


def test_a_panel_shows_its_own_failure(visit: Visits) -> None:
    visited = visit()
    page = visited.open("lamp")
    visited.answer("recommend", lambda _: a_problem(504, "no answer within 10 s"), 504)
    page.locator(".hit").first.get_by_role("button", name="More like this").click()
    expect(page.locator(".panel").get_by_role("alert")).to_contain_text("no answer within 10 s")
    assert page.locator(".hit").count() == 20
    visited.refused(504)
    page.unroute("**/v1/recommend")
    page.locator(".panel").get_by_role("button", name="Try again").click()
    expect(page.locator(".similar li")).to_have_count(6)


def test_a_token_is_asked_for_and_kept_in_this_tab_only(
    visit: Visits, everything: Any, make_service: Any, metrics: Any, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    token = add_token(file, "shop", ("search",))
    service, tokens = make_service(settings=everything), Tokens(str(file))
    with closing(Feedback(tmp_path / "store")) as feedback:
        api = build_api(service, metrics, LimitSettings(), tokens=tokens, feedback=feedback)
        with running(api) as server:
            visited = visit(server)
            use_a_token(visited, token)
            visited.context.close()


def use_a_token(visited: Visit, token: str) -> None:
    page = visited.page
    page.goto(f"{visited.server}/?q=lamp")
    field = page.get_by_label("Access token")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("type", "password")
    expect(page.locator("#access-reason")).to_contain_text("a token is needed")
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    field.fill(token)
    with page.expect_request("**/v1/search") as request:
        page.keyboard.press("Enter")
    assert request.value.headers["authorization"] == f"Bearer {token}"
    expect(page.locator(".hit")).to_have_count(20, timeout=20_000)
    expect(field).to_be_hidden()
    assert token in page.evaluate("Object.values(sessionStorage)")
    assert token not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
    page.reload()
    expect(page.locator(".hit")).to_have_count(20)
    visited.refused(401)
    page.get_by_role("button", name="Forget token").click()
    expect(field).to_be_focused()
    assert token not in page.evaluate("Object.values(sessionStorage)")
    expect(page.locator(".hit")).to_have_count(0)
    visited.refused(401)


def test_what_the_server_sends_is_text(visit: Visits, full_server: str) -> None:
    visited = visit()
    why = {"words": [MARKUP], "excluded": [MARKUP], "relevance": None}
    evil = a_hit(1, title=MARKUP, brand=MARKUP, category=[MARKUP], explanation=why)
    visited.answer("search", lambda body: an_answer(full_server, body, evil, a_hit(2, title=MARKUP)))
    page = visited.open(MARKUP)
    assert titles(page) == [MARKUP] * 2
    page.locator(".hit").first.get_by_role("button", name="Why here").click()
    expect(page.locator("mark")).to_have_text(MARKUP)
    expect(page.locator(".why strong")).to_have_text(MARKUP)
    page.locator(".hit").nth(1).get_by_role("button", name="More like this").click()
    expect(page.locator(".similar a")).to_have_text(MARKUP)  # The table of items does not have this product.
    assert page.locator("#results :is(img, b)").count() == 0
    visited.answer("search", lambda body: an_answer(full_server, body))
    page.get_by_text("Dense", exact=True).click()
    expect(page.get_by_text("No product found for")).to_contain_text(MARKUP)
    visited.answer("search", lambda _: a_problem(500, MARKUP), 500)
    page.get_by_text("Lexical", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text(MARKUP)
    assert page.evaluate("window.ran") is None
    assert page.locator("main img").count() == 0
    visited.refused(500)


def check(page: Page) -> None:
    """Check a view with axe (labels, names, roles, contrast, headings), and that it is no wider than the window."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize(("scheme", "ground"), [("light", LIGHT_GROUND), ("dark", DARK_GROUND)])
def test_it_is_accessible_and_fits_a_phone(visit: Visits, full_server: str, scheme: str, ground: str) -> None:
    visited = visit(viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
    page = visited.open()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    check(page)
    for mode in ("hybrid", "lexical", "compare"):
        page = visited.open("red running shoes", mode)
        page.locator("[data-action=why]").first.click()
        page.locator("[data-action=more]").nth(1).click()
        expect(page.locator(".why")).to_be_visible()
        expect(page.locator(".similar")).to_be_visible()
        page.locator("#versions summary").click()
        check(page)
    long = a_hit(1, title="W" * 300, brand="B" * 200, category=["C" * 200], grade=1)
    hits = long, a_hit(2, grade=0), a_hit(3, grade=None)
    visited.answer("search", lambda body: an_answer(full_server, body, *hits))
    check(visited.open("q" * 500))
    visited.answer("search", lambda _: a_problem(503, "d" * 400), 503)
    check(visited.open("lamp"))
    page.get_by_role("button", name="Keys").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page)
    visited.refused(503)
