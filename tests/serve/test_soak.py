"""Load, while replicas are killed and bundles published, some of them bad: no answer mixes versions, and few fail."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from ray import serve

from raylevance.artifacts import Store
from raylevance.inference import bundle as bundles
from raylevance.inference.bundle import BundleVersions
from serve.app import application
from serve.server import APPLICATION, deployed, free_port
from serve.settings import ServeSettings
from tests.serve.conftest import publish_index

pytestmark = pytest.mark.ray
CLIENTS, REPLICAS = 4, 2
ROWS = (200, 120, 60)
"""The products of the indexes that are published in turn: an answer of one must not have products of a larger one."""


@dataclass
class Shop:
    """A store with good and bad bundles to publish, and what a right answer of each index may have."""

    store: Store
    good: list[BundleVersions]
    bad: list[str]
    """The content of bundles that must be refused."""
    rows: dict[str, int]
    encoders: dict[str, str]


@pytest.fixture(scope="module")
def changing_shop(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    store = Store(tmp_path_factory.mktemp("soak"))
    table = pq.read_table(Store(shop.root).path("tables/shop") / "products")
    with store.publish("tables/shop") as tables:
        (tables.path / "products").mkdir()
        pq.write_table(table, tables.path / "products" / "0.parquet")
    good, rows, encoders = [], {}, {}
    for number, size in enumerate(ROWS):
        shop.encoder.settings = shop.encoder.settings.model_copy(update={"max_query_tokens": 30 + number})
        with store.publish("encoder/shop") as encoder:
            shop.encoder.save(encoder.path)
        parents = [encoder.ref, tables.ref]
        index = publish_index(store, shop.encoder, table.slice(0, size), f"index/shop{number}", parents)
        good.append(bundles.pin(store, index))
        rows[index], encoders[index] = size, encoder.ref
    damaged = publish_index(store, shop.encoder, table.slice(0, 10), "index/damaged", parents)
    unfit = good[0].model_copy(update={"encoder": good[1].encoder})
    bad = ['{"index": "index/sh', unfit.model_dump_json()]
    bad.append(bundles.pin(store, damaged).model_dump_json())
    file = next((store.path(damaged) / "vectors").iterdir())
    file.write_bytes(file.read_bytes()[:-5])
    bundles.publish(store, "shop", good[0])
    return Shop(store, good, bad, rows, encoders)


@dataclass
class Report:
    """What the clients saw, and the memory of a replica that lived through it all over time, in MB."""

    answers: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    failures: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kills: int = 0
    refused: int = 0
    converged: bool = False
    published: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)


class Soak:
    """Load from several clients on a server whose replicas are killed and whose bundle changes."""

    def __init__(self, server: str, shop: Shop) -> None:
        self.server, self.shop = server, shop
        self.report = Report()
        self.over = threading.Event()
        self.numbers = count()

    def run(self, seconds: float, kill_every: float, publish_every: float) -> Report:
        threads = [threading.Thread(target=self.load, daemon=True) for _ in range(CLIENTS)]
        threads.append(threading.Thread(target=self.publish, args=(publish_every,), daemon=True))
        for thread in threads:
            thread.start()
        try:
            self.kill_replicas(seconds, kill_every)
        finally:
            self.over.set()
            for thread in threads:
                thread.join(timeout=60)
        self.converge()
        return self.report

    def kill_replicas(self, seconds: float, kill_every: float) -> None:
        """Kill -9 a replica every so often, but for one, whose memory shows what grows."""
        survivor = next(replica_processes())
        ends, next_kill = time.monotonic() + seconds, time.monotonic() + kill_every
        while time.monotonic() < ends:
            time.sleep(1)
            self.report.memory.append((time.monotonic(), survivor.memory_info().rss / 1e6))
            if time.monotonic() >= next_kill and running_replicas() == REPLICAS:
                next_kill = time.monotonic() + kill_every
                for process in replica_processes():
                    if process != survivor:
                        process.kill()
                        self.report.kills += 1

    def converge(self) -> None:
        """Publish a last bad and a last good bundle, and wait until every replica answers from the good one."""
        with self.shop.store.publish("bundle/shop") as draft:
            (draft.path / bundles.FILE).write_text(self.shop.bad[0])
        last = bundles.publish(self.shop.store, "shop", self.shop.good[1]).ref
        ends = time.monotonic() + 60
        while time.monotonic() < ends and running_replicas() < REPLICAS:
            time.sleep(0.5)
        with httpx.Client(base_url=self.server, trust_env=False, timeout=30) as client:
            streak = 0
            while time.monotonic() < ends and streak < 20:
                response = client.get("/v1/versions", headers={"connection": "close"})
                right = response.status_code == 200 and response.json()["bundle"] == last
                streak = streak + 1 if right else 0
                self.report.refused += len(response.json()["refused"]) if right else 0
        self.report.converged = streak >= 20

    def load(self) -> None:
        """Send searches one after another. The text of each is new, so that none comes from a cache."""
        with httpx.Client(base_url=self.server, trust_env=False, timeout=30) as client:
            while not self.over.is_set():
                query = f"red lamp {next(self.numbers)}"
                request = {"query": query, "k": 100, "mode": "dense"}
                try:
                    response = client.post("/v1/search", json=request)
                except httpx.TransportError:
                    # HAProxy closes idle connections when replicas change; a client then sends again, on a new one.
                    self.report.reconnects += 1
                    response = client.post("/v1/search", json=request)
                if response.status_code == 200:
                    self.check(response.json())
                else:
                    self.report.failures.append(f"{response.status_code} {response.text[:200]}")

    def check(self, answer: dict[str, Any]) -> None:
        versions = answer["versions"]
        size = self.shop.rows.get(versions["index"])
        found = {int(hit["product_id"].removeprefix("P")) for hit in answer["hits"]}
        self.report.answers[versions["index"]] += 1
        if size is None or versions["encoder"] != self.shop.encoders[versions["index"]]:
            self.report.faults.append(f"versions {versions}")
        elif len(found) != min(100, size) or max(found) >= size:
            self.report.faults.append(f"{len(found)} products up to {max(found)} of {size}")

    def publish(self, every: float) -> None:
        bad, good = cycle(self.shop.bad), cycle(self.shop.good[1:] + self.shop.good[:1])
        for number in count():
            if self.over.wait(every):
                return
            if number % 2:
                with self.shop.store.publish("bundle/shop") as draft:
                    (draft.path / bundles.FILE).write_text(next(bad))
                self.report.published["bad"] += 1
            else:
                bundles.publish(self.shop.store, "shop", next(good))
                self.report.published["good"] += 1


def replica_processes() -> Iterator[psutil.Process]:
    """Return the replicas of this process's Ray; tests of another process have replicas of the same name."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::ServeReplica:raylevance:Search"):
                yield process


def running_replicas() -> int:
    """Return how many replicas take requests."""
    replicas = serve.status().applications[APPLICATION].deployments["Search"]
    return replicas.replica_states.get("RUNNING", 0)


@pytest.fixture
def soak(ray_cluster: None, changing_shop: Shop) -> Iterator[Soak]:
    settings = ServeSettings(
        store=str(changing_shop.store),
        bundle="bundle/shop",
        refresh_s=0.5,
        replicas=REPLICAS,
        encoder_cpus=0.25,
        search_cpus=0.25,
        port=free_port("127.0.0.1", 0),
    )
    with deployed(application(settings), settings.host, settings.port) as url:
        httpx.get(f"{url}/readyz", timeout=60).raise_for_status()
        yield Soak(url, changing_shop)
    serve.shutdown()


def check_report(report: Report) -> None:
    assert report.faults == []
    assert len(report.answers) == len(ROWS), "bundles did not change"
    assert len(report.failures) <= CLIENTS * report.kills, report.failures  # those in flight on a killed replica
    assert report.reconnects <= 10 * CLIENTS * report.kills
    assert not [failure for failure in report.failures if failure.startswith("4")]
    assert report.converged
    assert report.refused > 0


def test_killed_replicas_and_bad_bundles_spoil_no_answer(soak: Soak) -> None:
    report = soak.run(seconds=25, kill_every=8, publish_every=3)
    assert report.kills >= 1
    assert min(report.published.values()) >= 3
    check_report(report)


@pytest.mark.long
def test_ten_minutes_of_it_leave_memory_flat(soak: Soak, capsys: pytest.CaptureFixture[str]) -> None:
    report = soak.run(seconds=600, kill_every=30, publish_every=20)
    check_report(report)
    seconds, memory = (np.array(values) for values in zip(*report.memory, strict=True))
    late = seconds > seconds[0] + 120
    slope = float(np.polyfit(seconds[late] / 60, memory[late], 1)[0])
    with capsys.disabled():
        sys.stderr.write(
            f"\n{sum(report.answers.values())} answers, {len(report.failures)} failures and {report.reconnects} new "
            f"connections at {report.kills} kills, {dict(report.published)} bundles; "
            f"memory {memory[late].mean():.0f} MB, slope {slope:+.2f} MB a minute\n"
        )
    assert abs(slope) < 0.01 * memory[late].mean()
