"""A real vLLM engine with a tiny model: its scores against transformers', its failures, its replacement."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import ray.data

from raylevance.errors import RaylevanceError
from raylevance.llm.language_model import ANSWERS, Request
from raylevance.llm.vllm_engine import VllmModel, VllmSettings

pytestmark = pytest.mark.ray
CHOICES = ("0", "1", "2")
PROMPTS = {f"k{number}": f"Query: shoe\nProduct: red shoe number {number}\nGrade: " for number in range(60)}
TOO_LONG = "x" * 400


def settings(model: Path, **changes: Any) -> VllmSettings:
    engine = {"dtype": "float32", "max_num_batched_tokens": 512}
    return VllmSettings(model=str(model), max_model_len=256, max_num_seqs=16, engine=engine, **changes)


def ask(model: VllmSettings, prompts: dict[str, str], request: Request) -> dict[str, dict[str, Any]]:
    rows = ray.data.from_items(
        [{"key": key, "prompt": prompt} for key, prompt in prompts.items()], override_num_blocks=4
    )
    return {row["key"]: row for row in VllmModel(model).answer(rows, request).take_all()}


@pytest.fixture(scope="module")
def answers(tiny_llama: Path, ray_cluster: None) -> dict[str, dict[str, Any]]:
    """Answers of one engine to valid prompts and one that is too long, shared by the tests."""
    return ask(settings(tiny_llama), PROMPTS | {"long": TOO_LONG}, Request(choices=CHOICES))


def test_scores_are_those_of_transformers(answers: dict[str, dict[str, Any]], tiny_llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    ids = [tokenizer.encode(choice, add_special_tokens=False)[0] for choice in CHOICES]
    for key, prompt in PROMPTS.items():
        with torch.no_grad():
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1, ids]
        expected = torch.log_softmax(logits.double(), dim=0).numpy()
        assert np.allclose(answers[key]["log_probabilities"], expected, atol=2e-3), key
        assert set(answers[key]) == set(ANSWERS.names)
        assert answers[key]["error"] == "" and answers[key]["text"] is None


def test_a_prompt_that_is_too_long_is_an_error_of_its_row(answers: dict[str, dict[str, Any]]) -> None:
    assert len(answers) == len(PROMPTS) + 1
    assert answers["long"]["log_probabilities"] is None
    assert "256" in answers["long"]["error"]


@pytest.mark.long
def test_json_follows_its_schema(tiny_llama: Path, ray_cluster: None) -> None:
    """A model with random weights does not write JSON by chance."""
    schema = {"type": "object", "properties": {"kind": {"enum": ["shoe", "lamp"]}}, "required": ["kind"]}
    found = ask(settings(tiny_llama), dict(list(PROMPTS.items())[:4]), Request(json_schema=schema, max_tokens=60))
    assert all(json.loads(row["text"])["kind"] in ("shoe", "lamp") for row in found.values())


def engine_processes() -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if "EngineCore" in " ".join([process.info["name"] or "", *(process.info["cmdline"] or [])])
    ]


@pytest.fixture
def when_an_engine_runs() -> Iterator[list[Any]]:
    """A list for a signal and seconds: so long after the first engine process appears, it gets the signal."""
    signals: list[Any] = []
    over = threading.Event()

    def strike() -> None:
        while not over.wait(0.2):
            if signals and (found := engine_processes()):
                time.sleep(signals[0][1])
                for process in found:
                    os.kill(process.pid, signals[0][0])
                return

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    yield signals
    over.set()
    thread.join()


@pytest.mark.long
@pytest.mark.parametrize("after_s", [10, 40])
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_dies_or_hangs_is_replaced(
    tiny_llama: Path, ray_cluster: None, when_an_engine_runs: list[Any], sent: signal.Signals, after_s: float
) -> None:
    """Ten seconds after its process appears, the engine is starting; after 40 it is answering."""
    prompts = {f"{key}-{copy}": f"{copy} {prompt}" for key, prompt in PROMPTS.items() for copy in range(100)}
    when_an_engine_runs.append((sent, after_s))
    found = ask(settings(tiny_llama, stuck_after_s=20, started_within_s=90), prompts, Request(choices=CHOICES))
    assert len(found) == len(prompts) and not any(row["error"] for row in found.values())
    assert not [process for process in engine_processes() if process.status() == psutil.STATUS_STOPPED]


def test_more_engines_than_machines(tiny_llama: Path, ray_cluster: None) -> None:
    with pytest.raises(RaylevanceError, match="engines=3 with a machine each: the cluster has room for 1;"):
        ask(settings(tiny_llama, engines=3), PROMPTS, Request(choices=CHOICES))


def test_a_choice_of_several_tokens(tiny_llama: Path, ray_cluster: None) -> None:
    with pytest.raises(RaylevanceError, match="each must be one token"):
        ask(settings(tiny_llama), PROMPTS, Request(choices=("relevant", "not relevant")))
