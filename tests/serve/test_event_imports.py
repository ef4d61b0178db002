"""Events and queries of a server become tables: what was accepted is imported, each once."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from raylevance.artifacts import Store
from raylevance.client.messages import Event, Query
from raylevance.data.importing import import_tables
from raylevance.data.readers.ubi import read_ubi
from serve.api import build_api
from serve.feedback import Feedback
from serve.metrics import Metrics
from serve.service import Service
from serve.settings import LimitSettings
from tests.serve.test_feedback import event, keep, rows

ANY_TEXT = st.text(max_size=6)
ANY_ID = st.text(min_size=1, max_size=6) | st.sampled_from(["7.0", "1e5", "007", "\x1c", "a\x85", " a ", "é", "NaN"])
MOMENTS = st.datetimes(
    datetime(1989, 12, 30), datetime(2100, 1, 2), timezones=st.timezones() | st.just(UTC)
) | st.integers(0, 5 * 10**12)


@pytest.mark.ray
def test_whatever_is_accepted_can_be_imported(ray_cluster: None, tmp_path: Path) -> None:
    """A query or an event that the messages take is a good row, and comes out as it went in."""
    accepted: list[Event] = []
    texts: list[str] = []
    query_type: TypeAdapter[str] = TypeAdapter(Query)

    @settings(max_examples=400, deadline=None, database=None)
    @given(ANY_ID, ANY_ID, ANY_ID | st.none(), ANY_ID, MOMENTS, st.none() | st.integers(-1, 2**33), ANY_TEXT)
    def generate(
        event_id: str, product: str, client: str | None, session: str, time: Any, ordinal: int | None, text: str
    ) -> None:
        try:
            texts.append(query_type.validate_python(text))
        except ValidationError:
            return
        fields = event(event_id, f"q{len(texts) - 1}", product, client_id=client, session_id=session, timestamp=time)
        if ordinal is not None:
            fields["event_attributes"]["position"] = {"ordinal": ordinal}
        try:
            accepted.append(Event.model_validate(fields))
        except ValidationError:
            return

    for _ in range(20):  # how many of the generated events are good varies a lot from run to run
        generate()
        if len(accepted) > 20:
            break
    assert len(accepted) > 20
    feedback = Feedback(tmp_path)
    for number, text in enumerate(texts):
        feedback.answered(f"q{number}", text)
    for start_row in range(0, len(accepted), 100):
        asyncio.run(feedback.keep(accepted[start_row : start_row + 100]))
    feedback.close()
    summary = import_tables(read_ubi(tmp_path / "feedback"), tmp_path / "tables")
    assert summary.rows["events"] == len(accepted)
    found = {row["request_id"]: row for row in pq.read_table(tmp_path / "tables" / "events").to_pylist()}
    for each in accepted:
        row = found[each.query_id]
        assert (row["action"], row["timestamp"]) == ("click", each.timestamp)
        position = each.event_attributes.position
        assert row["position"] == (position.ordinal if position else None)
        assert row["product_id"].removesuffix(".0") == each.event_attributes.object.object_id.removesuffix(".0")


@pytest.mark.ray
def test_what_was_served_is_imported_once(ray_cluster: None, raylevance: Callable[..., Any], tmp_path: Path) -> None:
    """Two processes answer and take events, some of which are sent twice, in any order, to either."""
    chance = random.Random(0)
    pair = [Feedback(tmp_path, segment_bytes=3_000) for _ in range(2)]
    searches = [f"{chance.choice(['red', 'блок', '白い'])} lamp {number % 20}" for number in range(200)]
    names = [f"q{chance.getrandbits(64):016x}" for _ in searches]
    for name, text in zip(names, searches, strict=True):
        chance.choice(pair).answered(name, text)
    actions = ["exposure", "click", "cart", "purchase"]
    made = [
        event(f"é{number}", name, f"P{chance.randrange(50)}", action_name=action, session_id=f"s{number % 9}")
        for number, name in enumerate(names)
        for action in [chance.choice(actions)]
        for _ in range(1)
        if number % 5
    ]
    sendings = [*made, *made[::3], *made[::7]]
    chance.shuffle(sendings)
    while sendings:
        count = chance.randint(1, 9)
        keep(chance.choice(pair), *sendings[:count])
        del sendings[:count]
    for feedback in pair:
        feedback.close()
    ended = raylevance("data", "import", "ubi", "--from", tmp_path / "feedback", "--store", tmp_path, "--json")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    in_files = len(rows(tmp_path, "events"))
    assert in_files > len(made)
    assert summary["rows"] == {"queries": len(set(searches)), "events": len(made)}
    assert summary["dropped"]["events"] == {"repeats an event_id": in_files - len(made)}
    assert summary["quarantined"] == {}
    assert summary["files_not_read"] == []
    kind, _, version = summary["ref"].partition("@")
    tables = tmp_path / kind / version
    texts = {row["query_id"]: row["query"] for row in pq.read_table(tables / "queries").to_pylist()}
    found = Counter(
        (row["request_id"], texts[row["query_id"]], row["product_id"], row["action"])
        for row in pq.read_table(tables / "events").to_pylist()
    )
    text_of = dict(zip(names, searches, strict=True))
    assert found == Counter(
        (
            each["query_id"],
            text_of[each["query_id"]],
            each["event_attributes"]["object"]["object_id"],
            each["action_name"],
        )
        for each in made
    )


@pytest.mark.ray
def test_an_event_whose_query_is_not_known_is_named(
    ray_cluster: None, raylevance: Callable[..., Any], tmp_path: Path
) -> None:
    feedback = Feedback(tmp_path)
    feedback.answered("q1", "lamp")
    keep(feedback, event("e1"), event("e2", "of no answer"))
    feedback.close()
    command = ["data", "import", "ubi", "--from", tmp_path / "feedback", "--store", tmp_path, "--json"]
    assert "row 2: query_id is not in ubi_queries" in raylevance(*command).err
    summary = json.loads(raylevance(*command, "--on-bad-row", "quarantine").out)
    assert summary["rows"] == {"queries": 1, "events": 1}
    assert summary["quarantined"] == {"events": {"query_id is not in ubi_queries": 1}}


@pytest.mark.ray
def test_what_was_recommended_is_imported_without_queries(
    ray_cluster: None, raylevance: Callable[..., Any], full_service: Service, metrics: Metrics, tmp_path: Path
) -> None:
    """The answers of one request and of a batch, and events about them alone."""
    feedback = Feedback(tmp_path)
    request = {"triggers": [{"product_id": "P000"}], "k": 3}
    with TestClient(
        build_api(full_service, metrics, LimitSettings(), feedback=feedback), base_url="http://localhost"
    ) as client:
        answers = [
            client.post("/v1/recommend", json=request).json(),
            *client.post("/v1/recommend/batch", json={"requests": [request, request]}).json()["answers"],
        ]
        sent = {(answer["query_id"], item["product_id"]) for answer in answers for item in answer["items"]}
        batch = [event(product, answer, product, client_id="u1") for answer, product in sorted(sent)]
        assert client.post("/v1/events", json={"events": batch}).json() == {"accepted": 9, "repeated": 0}
    ended = raylevance("data", "import", "ubi", "--from", tmp_path / "feedback", "--store", tmp_path, "--json")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    assert summary["rows"] == {"queries": 0, "events": 9}
    assert summary["dropped"] == {"queries": {"has no user_query; its events are kept, without a query": 3}}
    kind, _, version = summary["ref"].partition("@")
    found = pq.read_table(tmp_path / kind / version / "events").to_pylist()
    assert {(row["request_id"], row["product_id"]) for row in found} == sent
    assert {(row["query_id"], row["user_id"], row["action"]) for row in found} == {(None, "u1", "click")}


@pytest.mark.long
@pytest.mark.ray
def test_the_documented_commands_join_what_was_served_with_the_catalogue(tmp_path: Path) -> None:
    """All but the training. An event of a product that has left the catalogue is put aside."""
    operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    [block] = [text for text in operations.split("\n```\n") if "shop/queries/served" in text]
    commands, _, training = block.strip().rpartition("\n")
    assert training.startswith("raylevance run item-retrieval --set data.source=tables/tables")
    tables = {
        "products": pa.table({"product_id": ["P1", "P2"], "title": ["red lamp", "hose"]}),
        "queries": pa.table({"query_id": ["judged"], "query": ["lamp"]}),
        "judgements": pa.table({"query_id": ["judged"], "product_id": ["P1"], "grade": [2], "source": ["human"]}),
    }
    (tmp_path / "catalogue").mkdir()
    for name, table in tables.items():
        pq.write_table(table, tmp_path / "catalogue" / f"{name}.parquet")
    feedback = Feedback(tmp_path / "store")
    feedback.answered("q1", "Lamp")
    feedback.answered("r1")
    keep(feedback, event("e1"), event("e2", product="gone"), event("e3", "r1", product="P2"))
    feedback.close()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "RAYLEVANCE_STORE": "store"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = Store(tmp_path / "store").get("tables/tables")
    assert made.metrics["rows"] == {"products": 2, "queries": 2, "judgements": 1, "events": 2}
    assert made.metrics["quarantined"] == {"events": {"unknown product_id": 1}}
