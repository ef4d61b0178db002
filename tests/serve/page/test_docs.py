"""The documentation of the API at /docs, in a real Chromium, of a server that asks for tokens."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import expect

from raylevance.tokens import Tokens, add_token
from serve.api import build_api
from serve.settings import LimitSettings
from tests.serve.page.chromium import Visit, running


@pytest.fixture(scope="module")
def guarded(make_service: Any, metrics: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a server with tokens, and a token of it."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    token = add_token(file, "shop", ("search",))
    with running(build_api(make_service(), metrics, LimitSettings(), tokens=Tokens(str(file)))) as address:
        yield address, token


def test_a_browser_reads_the_docs_and_calls_a_route_with_a_token(
    visit: Callable[..., Visit], guarded: tuple[str, str]
) -> None:
    """The fixture checks at its end that nothing was asked of another host, and that the browser reports no error."""
    server, token = guarded
    opened = visit(server)
    page = opened.page
    page.goto(f"{server}/docs")
    route = page.locator(".opblock", has=page.get_by_text("/v1/versions", exact=True))
    expect(route).to_be_visible(timeout=20_000)
    expect(page.locator(".opblock")).to_have_count(14)
    route.locator(".opblock-summary-control").click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute").click()
    status = route.locator(".live-responses-table .response-col_status")
    expect(status.last).to_have_text("401")
    opened.refused(401)
    page.get_by_role("button", name="Authorize", exact=True).click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_role("textbox").fill(token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").click()
    route.get_by_role("button", name="Execute").click()
    expect(status.last).to_have_text("200")
    expect(route.locator(".live-responses-table")).to_contain_text("index/shop@")
    assert "index/shop@" in route.locator(".live-responses-table").inner_text()


def test_an_address_can_not_make_the_docs_show_another_document(
    visit: Callable[..., Visit], guarded: tuple[str, str]
) -> None:
    server, _ = guarded
    page = visit(server).page
    page.goto(f"{server}/docs?url=http://127.0.0.1:1/openapi.json&configUrl=http://127.0.0.1:1/config.json")
    expect(page.get_by_text("/v1/versions", exact=True)).to_be_visible(timeout=20_000)
    assert page.locator(".info .title").inner_text().startswith("raylevance")


def test_the_docs_are_files_of_this_server_alone(guarded: tuple[str, str]) -> None:
    server, _ = guarded
    html = httpx.get(f"{server}/docs", trust_env=False)
    assert "//" not in html.text
    policy = html.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert httpx.get(f"{server}/redoc", trust_env=False).status_code == 401
    assert httpx.get(f"{server}/docs/oauth2-redirect", trust_env=False).status_code == 401


def test_the_schema_asks_for_a_token_where_the_server_does(
    guarded: tuple[str, str], make_service: Any, metrics: Any
) -> None:
    schema = httpx.get(f"{guarded[0]}/openapi.json", trust_env=False).json()
    asks = {path: "security" in operation for path, found in schema["paths"].items() for operation in found.values()}
    assert asks == {path: path.startswith("/v1/") for path in schema["paths"]}
    assert schema["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    open_schema = (
        TestClient(build_api(make_service(), metrics, LimitSettings()), base_url="http://localhost")
        .get("/openapi.json")
        .json()
    )
    assert "securitySchemes" not in open_schema["components"]
