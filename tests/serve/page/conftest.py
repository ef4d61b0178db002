"""A real Chromium, and real servers of the small shop, each on a port of its own."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Browser

from serve.api import build_api
from serve.feedback import Feedback
from serve.settings import LimitSettings
from tests.serve.page.chromium import HOW_TO_INSTALL, Visit, browsing, find_chromium, running


@pytest.fixture(scope="session")
def full_server(
    everything: Any, make_service: Any, metrics: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server with a classifier, a scorer, a table of items, and a place for events."""
    with closing(Feedback(tmp_path_factory.mktemp("events"))) as feedback:
        api = build_api(make_service(settings=everything), metrics, LimitSettings(), feedback=feedback)
        with running(api) as address:
            yield address


@pytest.fixture(scope="session")
def plain_server(make_service: Any, metrics: Any) -> Iterator[str]:
    """The address of a server that only searches, and keeps no events."""
    with running(build_api(make_service(), metrics, LimitSettings())) as address:
        yield address


# Playwright keeps an event loop running in this thread, where other files call asyncio.run: it ends with the file.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip(f"no Chromium: {HOW_TO_INSTALL}")
    with browsing() as browser:
        yield browser


@pytest.fixture
def visit(chromium: Browser, full_server: str) -> Iterator[Callable[..., Visit]]:
    """A function that opens a window, on the full server unless told. At the end none may have had an error."""
    visits: list[Visit] = []

    def start(server: str = full_server, **options: Any) -> Visit:
        visits.append(Visit(chromium, server, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()
        assert each.errors == []
        assert each.elsewhere == []
