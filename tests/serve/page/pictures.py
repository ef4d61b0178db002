"""Take the pictures of the page in docs/pictures from a server that runs.

python -m tests.serve.page.pictures http://127.0.0.1:8000 "coffee maker for small kitchens" "trainers for jogging"
"""

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.serve.page.chromium import Visit, browsing

FOLDER = Path(__file__).parents[3] / "docs" / "pictures"
PHONE = {"viewport": {"width": 390, "height": 844}}
PICTURES: list[tuple[str, str, dict[str, Any]]] = [
    ("light", "hybrid", {}),
    ("dark", "hybrid", {"color_scheme": "dark"}),
    ("phone", "hybrid", PHONE),
    ("side_by_side", "compare", {}),
]


def take(server: str, query: str, compared: str) -> None:
    """Write the pictures of a search for `query`, and of the three lists for `compared`."""
    with browsing() as chromium:
        for name, mode, options in PICTURES:
            page = Visit(chromium, server, **options).open(compared if mode == "compare" else query, mode)
            if mode == "hybrid":
                page.locator(".hit").nth(1).get_by_role("button", name="Why here").click()
                expect(page.locator(".why")).to_be_visible()
            page.wait_for_load_state("networkidle")
            page.locator(".top").hover()
            page.screenshot(path=FOLDER / f"page_{name}.png")


if __name__ == "__main__":
    take(*sys.argv[1:])
