"""Settings of a judge: which of them name its stored answers."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from raylevance.artifacts import Store
from raylevance.inference.judge import judge_version, load
from raylevance.judges.settings import JudgeSettings

ENDPOINT = {"url": "http://127.0.0.1:9/v1", "model": "m"}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "endpoint": (
        {
            "backend": "endpoint",
            "endpoint": ENDPOINT
            | {
                "concurrency": 8,
                "timeout_s": 3,
                "max_retries": 1,
                "max_wait_s": 2,
                "structured_outputs": True,
                "extra_body": {"a": 1},
                "api_key_env": "KEY",
            },
            "threshold": 0.6,
            "temperature": 2,
        },
        "endpoint@b0b9f96bded475da, temperature 2, threshold 0.6",
    ),
    "engine": (
        {
            "backend": "vllm",
            "vllm": {
                "model": "some/model",
                "engines": 3,
                "gpus": 1,
                "stuck_after_s": 5,
                "started_within_s": 7,
                "engine": {"dtype": "auto"},
            },
            "prompt": {"head": "Grade: "},
        },
        "engine@b3aecfc53d1336dc, temperature 1, threshold 0",
    ),
    "crossing": (
        {"backend": "cross-encoder", "cross_encoder": "model", "text": {"taxonomy_levels": 2}},
        "crossing@3abfaabde072aa63, temperature 1, threshold 0",
    ),
    "regression": (
        {"backend": "regression", "regression": "model"},
        "regression@45672d6089b3a35d, temperature 1, threshold 0",
    ),
    "both": (
        {"backend": "endpoint", "endpoint": ENDPOINT, "vllm": {"model": "other/model", "engines": 2}},
        "both@390ff8afdea9580d, temperature 1, threshold 0",
    ),
}


@pytest.fixture(autouse=True)
def release(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release that is part of the fingerprints above."""
    monkeypatch.setattr("raylevance.artifacts.manifest.__version__", "0.1.0")


@pytest.mark.parametrize("name", CASES)
def test_answers_of_an_unchanged_judge_are_found_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger finds its answers under these versions, which must not change with the code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.txt").write_text("weights")
    settings, version = CASES[name]
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    assert judge_version(Store(tmp_path / "store"), f"{name}.yaml") == version


@pytest.mark.parametrize("name", ["crossing", "regression"])
def test_an_actor_in_another_folder_finds_the_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(CASES[name][0]))
    opened: list[str] = []
    monkeypatch.setattr("raylevance.inference.judge.grader_judge", lambda backend, folder: opened.append(folder))
    load(Store(tmp_path / "store"), f"{name}.yaml")
    assert opened == [str(tmp_path / "model")]


def test_answers_of_the_zero_shot_judge_are_found_again(tmp_path: Path) -> None:
    version = judge_version(Store(tmp_path / "store"), "zero-shot")
    assert version == "zero-shot@51360636a27c8ce3, temperature 1, threshold 0"


def test_how_a_judge_runs_and_is_read_is_not_part_of_its_answers() -> None:
    settings = JudgeSettings.model_validate(CASES["endpoint"][0] | {"vllm": CASES["engine"][0]["vllm"]})
    answers = settings.answer_settings()
    assert set(settings.model_dump()) - set(answers) == {"temperature", "threshold"}
    assert set(settings.model_dump()["endpoint"]) - set(answers["endpoint"]) == {
        "concurrency",
        "timeout_s",
        "max_retries",
        "max_wait_s",
    }
    assert set(settings.model_dump()["vllm"]) - set(answers["vllm"]) == {"engines", "stuck_after_s", "started_within_s"}


def test_a_backend_without_its_settings() -> None:
    with pytest.raises(ValueError, match="backend=cross-encoder: set cross_encoder"):
        JudgeSettings.model_validate({"backend": "cross-encoder", "endpoint": ENDPOINT})
