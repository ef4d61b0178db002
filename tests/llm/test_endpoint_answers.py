"""Answers of an endpoint through Ray Data: in blocks, with a bad row named, and a refused key that ends the job."""

import gc
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from raylevance.errors import RaylevanceError
from raylevance.judges.guideline import load_guideline
from raylevance.judges.labelling import Labelling, label_pairs
from raylevance.judges.llm_judge import llm_judge
from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.cached_answers import answer_prompts
from raylevance.llm.endpoint import Endpoint, EndpointSettings
from raylevance.llm.language_model import ANSWERS, PROMPTS, Request
from raylevance.llm.ledger import Ledger
from tests.llm.scripted_server import Reply, completion, error_body, serving

KEY = "sk-do-not-print-me"
WRITE = Request(max_tokens=20)


@pytest.mark.ray
def test_one_bad_row_of_fifty_and_a_refused_key(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    monkeypatch.setattr("raylevance.llm.endpoint.BLOCK_ROWS", 16)
    rows = [{"key": f"k{number}", "prompt": f"prompt {number}"} for number in range(50)]
    pq.write_table(pa.Table.from_pylist(rows, PROMPTS), tmp_path / "prompts.parquet")

    def one_bad(prompt: str, attempt: int) -> Reply:
        time.sleep(0.05)
        return Reply(400, error_body(type="invalid")) if prompt == "prompt 17" else completion(prompt)

    with serving(one_bad) as server:
        settings = EndpointSettings(url=server.url, model="m", api_key_env="SHOP_KEY", concurrency=8)
        prompts = ray.data.read_parquet(str(tmp_path / "prompts.parquet"))
        answers = Endpoint(settings).answer(prompts, WRITE)
        blocks = list(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
        table = pa.concat_tables(blocks)
        assert max(map(len, blocks)) <= 16
        assert server.keys == {f"Bearer {KEY}"} and 1 < server.peak <= 8
    assert table.schema.equals(ANSWERS)
    assert {row["key"]: row["error"] for row in table.to_pylist() if row["error"]} == {"k17": "HTTP 400: invalid"}
    assert {row["key"]: row["text"] for row in table.to_pylist()} == {
        row["key"]: None if row["key"] == "k17" else row["prompt"] for row in rows
    }

    pq.write_table(
        pa.table({"query": ["mug"] * 9, "product_text": [f"p{n}" for n in range(9)]}), tmp_path / "p.parquet"
    )
    with serving(lambda prompt, attempt: Reply(401)) as server, Ledger(tmp_path / "ledger") as ledger:
        endpoint = Endpoint(settings.model_copy(update={"url": server.url}))
        judge = llm_judge(endpoint, JudgePrompt.zero_shot(load_guideline()))
        with pytest.raises(
            RaylevanceError, match="HTTP 401: the server refused the key in the environment variable 'SHOP_KEY'"
        ):
            label_pairs(tmp_path / "p.parquet", tmp_path / "out.parquet", Labelling(judge, "v"), ledger, tmp_path / "w")


def test_the_actors_of_a_refused_request_are_freed(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Their CPUs are free for the next data set, although the error is still at hand and no cycle is collected."""
    rows = pa.table({"key": ["a"], "prompt": ["b"]}, PROMPTS)
    cpus = ray.cluster_resources()["CPU"]
    with (
        serving(lambda prompt, attempt: Reply(401)) as server,
        Ledger(tmp_path / "ledger") as ledger,
        monkeypatch.context() as patched,
    ):
        # pytest keeps the log records of a test, and Ray Data's hold the traceback.
        patched.setattr(type(caplog.handler), "emit", lambda handler, record: None)
        gc.disable()
        try:
            with pytest.raises(RaylevanceError, match="HTTP 401") as raised:
                answer_prompts(
                    rows, Endpoint(EndpointSettings(url=server.url, model="m")), Request(), ledger, tmp_path / "work"
                )
            assert raised.value.__context__ is None
            deadline = time.monotonic() + 60
            while ray.available_resources().get("CPU") != cpus:
                assert time.monotonic() < deadline, "an actor keeps its CPUs"
                time.sleep(0.1)
        finally:
            gc.enable()
