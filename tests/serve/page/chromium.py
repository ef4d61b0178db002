"""Visits to the search page in Chromium, and messages that stand in for the server's."""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from raylevance.client.messages import Answer, Hit, Problem

HOW_TO_INSTALL = "install it (Debian: apt-get install chromium), or set RAYLEVANCE_CHROMIUM to its path"
REFUSED = re.compile(r"^Failed to load resource: the server responded with a status of (\d+)")


def find_chromium() -> str | None:
    """The path of Chromium, None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("RAYLEVANCE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start Chromium without a window."""
    # As root, Chromium does not start with its sandbox.
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        yield browser
        browser.close()


@contextmanager
def running(api: FastAPI) -> Iterator[str]:
    """Run `api` in a thread; yield its address."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


class Visit:
    """A page in a window of its own, with its console errors (violations of its CSP too) and requests elsewhere."""

    def __init__(self, chromium: Browser, server: str, **options: Any) -> None:
        self.server = server
        self.context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith(f"{self.server}/"):
            self.elsewhere.append(url)

    def open(self, query: str = "", mode: str = "hybrid") -> Page:
        """Open the page, with a query as a shared link, and wait until it has answered."""
        self.page.goto(f"{self.server}/?q={quote(query)}&mode={mode}" if query else f"{self.server}/")
        expect(self.page.locator("#results > *")).not_to_have_count(0, timeout=20_000)
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
        """Check which statuses the browser reports for refused requests, and take the reports from the errors."""
        assert {int(found[1]) for found in map(REFUSED.match, self.errors) if found} == set(statuses)
        self.errors = [line for line in self.errors if not line.startswith("Failed to load resource")]


def post(server: str, route: str, **request: Any) -> dict[str, Any]:
    """Return what the server answers to anyone."""
    response = httpx.post(f"{server}/v1/{route}", json=request, timeout=60)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def titles(page: Page) -> list[str]:
    return page.locator("#results .title").all_inner_texts()


def focused(page: Page) -> str:
    """The text of what has the focus, or its id."""
    text: str = page.evaluate("document.activeElement.innerText || document.activeElement.id")
    return text


def a_hit(number: int, **fields: Any) -> Hit:
    usual = {"title": f"Product {number}", "brand": "Acme", "category": ["Home"], "score": 1.0, "grade": 2}
    scores = {"dense_score": 0.5, "lexical_score": 2.0}
    return Hit.model_validate({"product_id": f"P{number}", **usual, **scores, **fields})


def an_answer(server: str, request: dict[str, Any], *hits: Hit) -> Answer:
    """An answer with `hits` of our own, and the versions of the server."""
    answer = Answer.model_validate(post(server, "search", query=request["query"], k=1, mode=request["mode"]))
    return answer.model_copy(update={"hits": list(hits)})


def a_problem(status: int, detail: str, code: str = "unavailable") -> Problem:
    return Problem(title="Service Unavailable", status=status, detail=detail, code=code, request_id="6f1c0b")
