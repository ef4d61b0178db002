"""The files that people deploy with: they name what exists."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from ray.serve.schema import ServeDeploySchema

from raylevance.errors import UsageError
from serve import app, proxy_environment
from serve import metrics as metrics_module
from serve.metrics import BatchMetrics, Metrics
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


def test_the_files_of_the_proxy_are_of_this_user_alone() -> None:
    """Its admin socket takes orders from whoever reaches it."""
    paths = [Path(os.environ[name]) for name in proxy_environment.FILES]
    [folder] = {path.parent if path.suffix or path.name == "server-state" else path for path in paths}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.stat().st_uid == os.getuid()
    node = "f" * 56
    assert max(len(str(path.parent / node / path.name)) for path in paths) < 107, "what a socket's path may have"
