"""`python -m serve` as a user runs it: its output, its failures and its end."""

import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from raylevance.artifacts import Store
from raylevance.client import Client
from raylevance.errors import RaylevanceError
from serve.server import free_port, url
from tests.conftest import Ended

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "serve", *arguments]


def run_failing_command(*arguments: str) -> tuple[int, str]:
    """Run a command that prints no result; return its exit code and the last line of its stderr."""
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.mark.ray
def test_it_answers_the_queries_and_stops(shop: Any) -> None:
    queries = ["--try", "red running shoes", "--try", "白い lamp"]
    few = ["--set", "max_k=3"]
    arguments = command("--store", str(shop.root), "--index", "index/shop", "--port", "0", *few, *queries)
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.strip().split("\n\n")
    assert first.splitlines()[0].rstrip() == '"red running shoes" (hybrid)'
    assert re.fullmatch(r" *rank +grade +score +title *", first.splitlines()[1])
    assert re.fullmatch(r" +1 +2 +\d+\.\d{4} +Red running shoe .*", first.splitlines()[2])
    assert second.startswith('"白い lamp"')
    for answer in (first, second):
        assert re.search(r"\d+ ms \| index/shop@\w{12} \| encoder/shop@\w{12} \| tables/shop@\w{12}", answer)
    assert len(done.stderr.splitlines()) == 2, done.stderr


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(shop: Any, number: signal.Signals) -> None:
    port = free_port("127.0.0.1", 0)
    arguments = command("--store", str(shop.root), "--index", "index/shop", "--port", str(port))
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until_ready(url("127.0.0.1", port), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    assert free_port("127.0.0.1", port) == port


@pytest.mark.ray
@pytest.mark.long
def test_it_says_where_its_metrics_and_logs_are(shop: Any) -> None:
    arguments = command("--store", str(shop.root), "--index", "index/shop", "--port", "0")
    with subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        server, metrics, logs = (
            re.findall(pattern, said, re.MULTILINE)
            for pattern in (r"API: (\S+)/docs\)", r"metrics for Prometheus at (\S+)$", r"each request in (\S+)$")
        )
        assert (len(server), len(metrics), len(logs)) == (1, 1, 1), said
        identity = {"x-request-id": "looked-for-in-the-log"}
        httpx.get(f"{server[0]}/v1/versions", headers=identity, trust_env=False).raise_for_status()
        deadline = time.monotonic() + 60  # Ray exports metrics every few seconds.
        counted = re.compile(r'^ray_raylevance_requests_total\{.*route="/v1/versions".*\} 1\.0$', re.MULTILINE)
        while not counted.search(httpx.get(metrics[0], trust_env=False).text):
            assert time.monotonic() < deadline, httpx.get(metrics[0], trust_env=False).text[:3000]
            time.sleep(0.5)
        files = list(Path(logs[0]).parent.glob(Path(logs[0]).name))
        assert any("looked-for-in-the-log" in file.read_text() for file in files), files
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def wait_until_ready(server: str, process: "subprocess.Popen[str]") -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()
        try:
            if httpx.get(f"{server}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the server was not ready within a minute")


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate: install it")
def test_it_answers_over_https(shop: Any, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *names], check=True, capture_output=True)
    port = free_port("127.0.0.1", 0)
    arguments = ["--store", str(shop.root), "--index", "index/shop", "--port", str(port)]
    tls = ["--set", f"tls_cert={cert}", "--set", f"tls_key={key}"]
    with subprocess.Popen(command(*arguments, *tls), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        trusted = ssl.create_default_context(cafile=str(cert))
        for _ in range(600):
            assert process.poll() is None, process.communicate()
            try:
                if httpx.get(f"https://127.0.0.1:{port}/readyz", verify=trusted, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        with Client(f"https://127.0.0.1:{port}", verify=trusted) as client:
            assert client.search("lamp").hits
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    wrong = [*arguments, "--set", f"tls_cert={key}", "--set", f"tls_key={key}"]
    code, line = run_failing_command(*wrong)
    assert (code, f"tls_cert={key}" in line) == (1, True)


@pytest.mark.long
@pytest.mark.ray
def test_an_index_that_cannot_be_loaded_is_reported_in_one_line(shop: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.publish("encoder/shop") as encoder:
        shop.encoder.save(encoder.path)
    with store.publish("tables/shop") as tables:
        (tables.path / "made-by").write_text("a test")
    with store.publish("index/shop", parents=[encoder.ref, tables.ref]) as index:
        (index.path / "index.json").write_text("torn")
    code, line = run_failing_command("--store", str(tmp_path), "--index", "index/shop", "--port", "0")
    assert code == 1
    assert str(store.path("index/shop")) in line


def test_a_taken_port_is_reported_before_anything_starts(shop: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = run_failing_command("--store", str(shop.root), "--index", "index/shop", "--port", str(port))
    assert code == 1
    message = f"raylevance: can't listen on 127.0.0.1:{port}: Address already in use; choose another --port"
    assert re.fullmatch(rf"{message} \(log: .*\)", line), line


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--index", "index/shp"], 1, "index/shp: no such artifact in .*; did you mean 'index/shop'"),
        (["--index", "encoder/shop"], 2, "encoder/shop: not an index"),
        (["--index", "shop"], 2, "'shop' is not a reference"),
        (["--port", "70000"], 2, "setting 'port': input should be less than or equal to 65535, got 70000"),
        (["--set", "maxk=3"], 2, "unknown setting 'maxk'; did you mean 'max_k'"),
    ],
)
def test_a_mistake_is_reported_in_one_line(shop: Any, arguments: list[str], code: int, message: str) -> None:
    returned, line = run_failing_command("--store", str(shop.root), *arguments)
    assert returned == code
    assert re.search(message, line), line


def test_an_unknown_option_is_wrong_usage() -> None:
    done = subprocess.run(command("--prot", "1"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(RaylevanceError, match=r"can't listen on 192\.0\.2\.77:\d+"):
        free_port("192.0.2.77", 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("shop.example", "http://shop.example:80"),
    ],
)
def test_the_url_reaches_the_server(host: str, expected: str) -> None:
    assert url(host, 80) == expected


def test_a_folder_with_a_module_of_the_name_of_the_server_is_refused(
    raylevance: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serve.py").touch()
    ended = raylevance("serve", "--store", tmp_path)
    assert ended.code == 2
    assert "serve.py: this folder has a module of the server's name" in ended.err
