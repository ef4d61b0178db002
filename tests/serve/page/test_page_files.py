"""The files of the search page over HTTP, and in a wheel."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve.routes import page

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    api = FastAPI()
    api.include_router(page.router())
    with TestClient(api, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("path", sorted(page.PATHS))
def test_a_file_is_sent_once_and_runs_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    answer = client.get(path)
    file = page.FOLDER / ("index.html" if path == "/" else path.removeprefix("/page/"))
    assert answer.content == file.read_bytes()
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'"} <= set(policy)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    tag = answer.headers["ETag"]
    for known in (tag, f'"other", W/{tag}'):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head(path)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page/page.css", "text/css"),
        ("/page/page.js", "text/javascript"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_media_types(client: TestClient, path: str, kind: str) -> None:
    assert client.get(path).headers["Content-Type"] == f"{kind}; charset=utf-8"


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/none.js", "/page/..%2froutes%2fpage.py"])
def test_nothing_else_is_sent(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_page_asks_for_no_more_hits_than_the_server_allows() -> None:
    for max_k, asked in ((7, 7), (100, 20)):
        api = FastAPI()
        api.include_router(page.router(max_k))
        assert f'data-hits="{asked}"' in TestClient(api, base_url="http://localhost").get("/").text


def test_a_wheel_has_the_page_and_every_other_file_of_the_server(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("serve", "workloads", "platform"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True)
    with ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("serve/")}
    assert packed == {str(file.relative_to(source)) for file in (source / "serve").rglob("*") if file.is_file()}
    assert "serve/page/index.html" in packed
