"""Downloads over real HTTP from this machine: complete, resumed, interrupted, wrong, and without a server."""

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raylevance.data import download as module
from raylevance.data.download import RemoteFile, download, fetch
from raylevance.errors import RaylevanceError, UsageError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Files(BaseHTTPRequestHandler):
    """Serve CONTENT: /whole ignores ranges, /ranges answers them, /torn ends early, anything else is not found."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Range"]))
        kind = self.path.split("/")[1]
        if kind not in ("whole", "ranges", "torn"):
            self.send_error(404)
            return
        start = int(self.headers["Range"][6:-1]) if kind == "ranges" and self.headers["Range"] else 0
        body = CONTENT[: len(CONTENT) // 2] if kind == "torn" else CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Files.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def remote(url: str, sha256: str = SHA256) -> RemoteFile:
    return RemoteFile(url, len(CONTENT), sha256)


def test_whole_and_not_again(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch(remote(f"{server}/whole/a.bin"), tmp_path / "new")
        assert path.read_bytes() == CONTENT
    assert Files.asked == [("/whole/a.bin", None)]
    assert list((tmp_path / "new").iterdir()) == [path]


@pytest.mark.parametrize("kind", ["ranges", "whole"])
def test_goes_on_where_it_stopped(server: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(remote(f"{server}/{kind}/a.bin"), tmp_path).read_bytes() == CONTENT
    assert Files.asked == [(f"/{kind}/a.bin", "bytes=1000-")]


def test_a_torn_transfer_can_go_on(server: str, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match=r"512,000 of 1,024,000 bytes arrived; run the same command to continue"):
        fetch(remote(f"{server}/torn/a.bin"), tmp_path)
    assert fetch(remote(f"{server}/ranges/a.bin"), tmp_path).read_bytes() == CONTENT


def test_another_file_is_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="sha256 differs"):
        fetch(remote(f"{server}/whole/a.bin", "0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_and_not_found(server: str, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="404"):
        fetch(remote(f"{server}/gone/a.bin"), tmp_path)
    with pytest.raises(RaylevanceError, match="can't be downloaded") as caught:
        fetch(remote("http://127.0.0.1:1/a.bin"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_full_disk(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RaylevanceError, match="more bytes"):
        fetch(RemoteFile(f"{server}/whole/a.bin", 1 << 60, SHA256), tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_stream", full)
    with pytest.raises(RaylevanceError, match="the disk is full"):
        fetch(remote(f"{server}/whole/a.bin"), tmp_path)


def test_by_name(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.FILES, "esci", [remote(f"{server}/whole/{name}.bin") for name in "ab"])
    assert [path.name for path in download("esci", tmp_path)] == ["a.bin", "b.bin"]
    with pytest.raises(UsageError, match="unknown data set; did you mean 'esci'"):
        download("esc", tmp_path)
