"""The files that people deploy with: they name what exists."""

import json
import os
import re
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE
from ray.serve.schema import ServeDeploySchema

from raylevance.errors import UsageError
from serve import app, proxy_environment
from serve import metrics as metrics_module
from serve.guard import ID
from serve.metrics import BatchMetrics, Metrics
from serve.server import free_port
from serve.settings import LOOPBACK, ServeSettings

ROOT = Path(__file__).parents[2]
SUFFIX = r"_(total|bucket|count|sum)$"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The names that Prometheus sees of our metrics, with their tags."""
    found: dict[str, set[str]] = {}

    def record(kind: str) -> Any:
        def make(name: str, **options: Any) -> None:
            suffixes = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_count", "_sum"]}[kind]
            for suffix in suffixes:
                found[f"ray_{name}{suffix}"] = set(options.get("tag_keys", ())) | {"le", "instance"}

        return make

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics_module, kind, record(kind))
    Metrics()
    BatchMetrics()
    return found


def test_the_dashboard_asks_for_metrics_that_are_exported(exported: dict[str, set[str]]) -> None:
    dashboard = json.loads((ROOT / "serve" / "grafana.json").read_text())
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            names = set(re.findall(r"ray_raylevance_\w+", target["expr"]))
            asked |= names
            assert names and names <= set(exported), target["expr"]
            tags = set().union(*(exported[name] for name in names))
            for listed in re.findall(r"by \(([\w, ]+)\)", target["expr"]):
                assert {tag.strip() for tag in listed.split(",")} <= tags, target["expr"]
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= tags
    bare = {re.sub(SUFFIX, "", name) for name in asked}
    assert bare == {re.sub(SUFFIX, "", name) for name in exported}, "a metric has no panel"


def test_the_dashboard_has_the_shape_that_grafana_loads() -> None:
    """Grafana's own model of a dashboard reads all of it: it drops what it does not know."""
    register_default_plugins()
    dashboard = json.loads((ROOT / "serve" / "grafana.json").read_text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    assert known_part(read, dashboard) == dashboard
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(dashboard)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    [variable] = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"]) == ("datasource", "datasource")
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}


def known_part(read: Any, written: Any) -> Any:
    """Return the fields of `read` that `written` has."""
    if isinstance(written, dict):
        return {name: known_part(read[name], value) for name, value in written.items() if name in read}
    if isinstance(written, list):
        return [known_part(*pair) for pair in zip(read, written, strict=True)]
    return read


def test_the_configuration_deploys_the_application_on_loopback() -> None:
    config = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    schema = ServeDeploySchema.model_validate(config)
    assert schema.http_options.host in LOOPBACK
    [application] = schema.applications
    module, _, name = application.import_path.partition(":")
    assert (module, callable(getattr(app, name))) == ("serve.app", True)
    settings = ServeSettings.model_validate(application.args)
    assert settings.bundle == "bundle/shop"
    with pytest.raises(UsageError, match=r"args.port: has no effect"):
        app.deployment(settings.model_copy(update={"port": 1}))
    with pytest.raises(UsageError, match=r"args.tokens: is needed"):
        app.deployment(ServeSettings(store="x"))


def test_the_container_starts_the_command_with_tokens() -> None:
    text = (ROOT / "Containerfile").read_text()
    entrypoint = json.loads(text.split("ENTRYPOINT ")[1])
    assert entrypoint[:2] == ["raylevance", "serve"]
    assert "--tokens" in entrypoint
    copied = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    "ports", [{}, {"RAY_SERVE_HAPROXY_STATS_PORT": "9301", "RAY_SERVE_HAPROXY_METRICS_PORT": "9302"}]
)
def test_the_proxy_listens_on_loopback_and_writes_no_query_to_the_log_of_the_system(
    tmp_path: Path, ports: dict[str, str]
) -> None:
    """As Ray writes its configuration, with its own ports where none are set, but for what stays."""
    stats, measured = ports.values() or ("8404", "9101")
    metrics = "    log /run/metrics.sock len 8192 format rfc5424 local1 debug"
    kept = ["    log global", metrics, "    bind 127.0.0.1:8000"]
    lines = ["    log 127.0.0.1:514 local0 info", f"    bind *:{stats}", f"    bind :{measured}", *kept]
    (tmp_path / "haproxy.cfg").write_text("\n".join(lines) + "\n")
    unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_SERVE_HAPROXY")}
    environment = {**unset, **ports, "RAYLEVANCE_HAPROXY": "echo"}
    script = ["sh", str(ROOT / "serve" / "haproxy_on_loopback.sh"), "-f", str(tmp_path / "haproxy.cfg")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-f", str(tmp_path / "haproxy.cfg")], "HAProxy gets the arguments"
    written = (tmp_path / "haproxy.cfg").read_text().splitlines()
    assert written == [f"    bind 127.0.0.1:{stats}", f"    bind 127.0.0.1:{measured}", *kept]


CONFIGURATION = """defaults
    mode http
    timeout connect 5s
    timeout client 1s
    timeout http-keep-alive 20s
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    server one 127.0.0.1:{replica}
"""
"""What of Ray's configuration a request meets, with a shorter time for clients."""


class Replica(BaseHTTPRequestHandler):
    """Answers with the head that it was sent; slowly where the path says so."""

    def do_GET(self) -> None:
        time.sleep(2.5 if self.path == "/slow" else 0)
        body = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items()).encode("latin-1")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[int]:
    """The port of HAProxy as our script configures it, in front of a `Replica`; a head may take 2 s, not 10."""
    file, port = tmp_path / "haproxy.cfg", free_port("127.0.0.1", 0)
    binary = os.environ["RAYLEVANCE_HAPROXY"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Replica) as replica:
        threading.Thread(target=replica.serve_forever, daemon=True).start()
        file.write_text(CONFIGURATION.format(port=port, replica=replica.server_address[1]))
        script = ["sh", str(ROOT / "serve" / "haproxy_on_loopback.sh"), str(file)]
        subprocess.run(script, env={**os.environ, "RAYLEVANCE_HAPROXY": "echo"}, check=True, capture_output=True)
        written = file.read_text()
        assert written.count("timeout http-request 10s") == 1
        file.write_text(written.replace("http-request 10s", "http-request 2s"))
        with subprocess.Popen([binary, "-db", "-f", str(file)], stderr=subprocess.DEVNULL) as haproxy:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield port
            haproxy.terminate()
        replica.shutdown()


def ask(port: int, *lines: bytes, path: bytes = b"/") -> bytes:
    """Send a request with these lines in its head, and return the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = [b"GET " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *lines, b"", b""]
        connection.sendall(b"\r\n".join(head))
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_proxy_drops_headers_that_ray_could_not_read(proxy: int) -> None:
    read_by_ray = (
        *(b"X-Session-Id", b"X_Session_Id", b"X-Session_Id", b"X-Request-Timeout-Seconds"),
        *(b"X-Request-Disconnect-Disabled", b"Serve-Multiplexed-Model-Id", b"serve_multiplexed_model_id"),
    )
    for name in read_by_ray:
        answer = ask(proxy, name + b": \xff1")
        assert b" 200 " in answer and name.lower() not in answer, answer
    for kept in (b"r-1", b"Root=1-67891233-abc;Self=1/x+y@z", b"a" * 128):
        assert ID.fullmatch(kept.decode())
        assert b"x-request-id: " + kept + b"\n" in ask(proxy, b"X-Request-Id: " + kept)
    for dropped in (b"r\xff", b"a b", b"a" * 129, b'a"', b"r-1\r\nX-Request-Id: r-2"):
        answer = ask(proxy, b"X-Request-Id: " + dropped)
        assert b" 200 " in answer and b"x-request-id" not in answer, dropped


def test_the_proxy_gives_up_a_slow_head_but_no_slow_answer(proxy: int) -> None:
    with socket.create_connection(("127.0.0.1", proxy), timeout=20) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        slow.settimeout(0.4)  # shorter than a client may be silent
        answer, until = b"", time.monotonic() + 15
        while not answer and time.monotonic() < until:
            with suppress(TimeoutError):
                answer = slow.recv(65536)
            if not answer:
                slow.sendall(b"X-More: 1\r\n")
        assert b" 408 " in answer
    assert b" 200 " in ask(proxy, path=b"/slow"), "an answer may take longer than a client may be silent"
    with socket.create_connection(("127.0.0.1", proxy), timeout=20) as kept:
        for _ in range(2):
            kept.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            response = HTTPResponse(kept)
            response.begin()
            assert response.status == HTTPStatus.OK
            response.read()
            time.sleep(1.5)  # longer than the time for clients, which does not bound the time between requests


def test_the_ports_of_the_proxy_are_free_and_none_that_a_connection_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if given_out.exists() and given_out.read_text().split()[0] == "32768":
        assert max(proxy_environment.PROXY_PORTS) < 32768
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as also_taken:
        ports = [listening.getsockname()[1] for listening in (taken, also_taken)]
        free = proxy_environment._free_ports(2)
        among = [*ports, *free]
        assert sorted(proxy_environment._free_ports(2, among)) == sorted(free)
    drawn = []
    for pid in range(100, 110):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        drawn += proxy_environment._free_ports(3)
    assert len({*drawn}) == 30, "servers that start together have ports of their own"


def test_the_script_finds_its_places_in_the_configuration_of_ray() -> None:
    assert re.search(r"timeout client .*s", HAPROXY_CONFIG_TEMPLATE)
    assert "\nfrontend http_frontend\n" in HAPROXY_CONFIG_TEMPLATE


def test_the_files_of_the_proxy_are_of_this_user_alone() -> None:
    """Its admin socket takes orders from whoever reaches it."""
    paths = [Path(os.environ[name]) for name in proxy_environment.FILES]
    [folder] = {path.parent if path.suffix or path.name == "server-state" else path for path in paths}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.stat().st_uid == os.getuid()
    node = "f" * 56
    assert max(len(str(path.parent / node / path.name)) for path in paths) < 107, "what a socket's path may have"
