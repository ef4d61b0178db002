"""Grading: a batch equals its pairs one by one, workers and kills change nothing, bad pairs are refused in a line."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from torch.nn import functional

from raylevance.errors import RaylevanceError
from raylevance.judges.causal_judge import CausalJudge, LoraSettings
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.grader import log_probabilities
from raylevance.judges.prompt import JudgePrompt
from raylevance.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from raylevance.training.optimizer import build_optimizer
from raylevance.training.task import TaskReplica, WorkerContext
from raylevance.training.tasks.grading import Grading, GradingSettings, load_grader
from raylevance.training.trainer import TrainResult, train
from tests.conftest import WORDS
from tests.training.conftest import split_machine_settings

RULE = {"sock": 0, "lamp": 1, "shoe": 2}
"""A product has exactly one of these words, which decides its grade."""
STEPS = 16
BASE = {"epochs": 2, "batch": 9, "learning_rate": 1e-3, "log_every": 1, "cpus_per_worker": 1}
"""65 pairs make eight batches of 9 in an epoch, one of which has two pairs."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine threads wait for each other longer than these models compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs_by_rule(count: int, seed: int) -> pa.Table:
    """Make `count` pairs, half of them of grade 2 and a sixth of grade 0."""
    rng = np.random.default_rng(seed)
    words = [word for word in WORDS if word not in RULE]
    telling = rng.choice(list(RULE), count, p=[1 / 6, 1 / 3, 1 / 2])
    texts = [rng.permutation([word, *rng.choice(words, rng.integers(1, 8))]) for word in telling]
    return pa.table(
        {
            "query_id": [f"q{row // 4}" for row in range(count)],
            "query": [" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(count)],
            "product_text": [" ".join(text) for text in texts],
            "grade": [RULE[word] for word in telling],
        }
    )


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    pq.write_table(pairs_by_rule(65, seed=0), file)
    return file


@pytest.fixture(scope="module")
def start(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "model"
    CrossEncoder.from_backbone(tiny_backbone, max_tokens=24).save(folder)
    return folder


@pytest.fixture(scope="module")
def judge_start(tiny_language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "judge"
    CausalJudge.from_base(tiny_language_model, JudgePrompt.fine_tuned(), LoraSettings(rank=8, alpha=16)).save(folder)
    return folder


@pytest.fixture(params=["cross-encoder", "judge"])
def either(request: pytest.FixtureRequest, start: Path, judge_start: Path) -> Path:
    return start if request.param == "cross-encoder" else judge_start


def opened(task: Grading, folder: Path, **context: int) -> TaskReplica:
    task.prepare(folder)
    return task.open(None, WorkerContext(folder, **({"seed": 0} | context)))


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def naive_logits(grader: CrossEncoder | CausalJudge, query: str, text: str) -> torch.Tensor:
    """Return the logits [3] of one pair by Hugging Face's own tokenizer and forward pass."""
    tokenizer = grader.tokenize.tokenizer
    if isinstance(grader, CrossEncoder):
        logits: torch.Tensor = grader.network(**tokenizer(query, text, return_tensors="pt", truncation=True)).logits[0]
        return logits
    prompt = tokenizer(f"Query: {query}\nProduct: {text}\nGrade: ", return_tensors="pt")["input_ids"]
    last: torch.Tensor = grader.network(input_ids=prompt).logits[0, -1]
    return last[tokenizer.convert_tokens_to_ids(["0", "1", "2"])]


@pytest.mark.parametrize(("class_weights", "batch_tokens"), [("balanced", 60), ("balanced", 9999), ("none", 40)])
def test_a_batch_equals_its_pairs_one_by_one(
    either: Path, pairs_file: Path, tmp_path: Path, class_weights: str, batch_tokens: int
) -> None:
    """Loss and gradient equal a loop over the pairs in float64, and no forward pass exceeds `batch_tokens`."""
    task = Grading(either, pairs_file, GradingSettings(batch=12, class_weights=class_weights))
    replica = opened(task, tmp_path, batch_tokens=batch_tokens)
    passes: list[int] = []
    replica.model.register_forward_pre_hook(lambda _, given: passes.append(given[0].numel()))
    loss = replica.backward(1)
    assert max(passes) <= batch_tokens and (len(passes) == 1) is (batch_tokens == 9999)

    oracle, rows = load_grader(either).double(), pq.read_table(pairs_file).to_pylist()
    naive = torch.zeros((), dtype=torch.float64)
    for row in replica.rows(1):
        pair = rows[int(row)]
        same_grade = sum(other["grade"] == pair["grade"] for other in rows)
        weight = 1.0 if class_weights == "none" else len(rows) / (3 * same_grade)
        logits = naive_logits(oracle, pair["query"], pair["product_text"])
        naive = naive - weight * functional.log_softmax(logits, dim=0)[pair["grade"]]
    naive.backward()
    assert float(loss) == pytest.approx(naive.item(), rel=1e-5)
    expected, found = gradients(oracle), gradients(replica.model)
    assert expected.keys() == found.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient.double(), expected[name], rtol=0, atol=1e-5 * largest)


def test_the_shares_of_three_workers_add_up(start: Path, pairs_file: Path, tmp_path: Path) -> None:
    """One step has two pairs, so the third worker has none."""
    task = Grading(start, pairs_file, GradingSettings(batch=9))
    alone, *shares = [
        opened(task, tmp_path, rank=rank, world_size=size) for rank, size in [(0, 1), (0, 3), (1, 3), (2, 3)]
    ]
    step = next(step for step in range(8) if len(alone.rows(step)) == 2)
    assert float(alone.backward(step)) == pytest.approx(sum(float(share.backward(step)) for share in shares))
    parts = [gradients(share) for share in shares]
    assert parts[2] == {}
    for name, gradient in gradients(alone).items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], gradient, rtol=0, atol=1e-5)


def test_an_epoch_holds_every_pair_once(start: Path, pairs_file: Path, tmp_path: Path) -> None:
    replica = opened(Grading(start, pairs_file, GradingSettings(batch=9)), tmp_path)
    epochs = [np.concatenate([replica.rows(step) for step in range(first, first + 8)]) for first in (0, 8)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(65))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


def steps(replica: TaskReplica, optimizer: torch.optim.Optimizer, first: int, end: int) -> None:
    for step in range(first, end):
        optimizer.zero_grad()
        replica.backward(step)
        optimizer.step()


def test_a_checkpoint_brings_back_the_next_step(either: Path, pairs_file: Path, tmp_path: Path) -> None:
    settings = GradingSettings(batch=9, learning_rate=1e-2)
    task, folder = Grading(either, pairs_file, settings), tmp_path / "checkpoint"
    replica = opened(task, tmp_path)
    optimizer = build_optimizer(replica, settings)
    steps(replica, optimizer, 0, 2)
    save_checkpoint(folder, replica, optimizer, Progress(step=2))
    again = task.open(folder / "model", WorkerContext(tmp_path, seed=0))
    resumed = build_optimizer(again, settings)
    assert load_checkpoint(folder, again, resumed).step == 2
    steps(replica, optimizer, 2, 3)
    steps(again, resumed, 2, 3)
    for (name, one), (_, other) in zip(replica.named_parameters(), again.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7, msg=name)


def test_a_judge_learns_the_rule_and_its_base_does_not_change(
    judge_start: Path, pairs_file: Path, tmp_path: Path
) -> None:
    settings = GradingSettings(batch=9, learning_rate=3e-3)
    replica = opened(Grading(judge_start, pairs_file, settings), tmp_path)
    before = {name: parameter.detach().clone() for name, parameter in replica.named_parameters()}
    optimizer = build_optimizer(replica, settings)
    steps(replica, optimizer, 0, 48)
    unseen = pairs_by_rule(60, seed=2)
    answers = log_probabilities(replica.model, unseen["query"].to_pylist(), unseen["product_text"].to_pylist())
    assert np.mean(answers.argmax(axis=1) == unseen["grade"].to_numpy()) > 0.9
    for name, parameter in replica.named_parameters():
        assert torch.equal(parameter, before[name]) is ("lora" not in name), name
    assert len(optimizer.state) == sum("lora" in name for name in before)


def run(folder: Path, start: Path, pairs: Path, evaluate: Any = None, **options: Any) -> TrainResult:
    settings, machine = split_machine_settings(BASE | options)
    task = Grading(start, pairs, GradingSettings(**settings))
    return train(task, machine, run_dir=folder / "run", output=folder / "trained", evaluate=evaluate)


@pytest.mark.long
@pytest.mark.ray
def test_two_workers_one_of_them_killed_train_what_one_trains(
    ray_cluster: None, start: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """Rank 0 of two is killed once at step 10 of 16; the newest checkpoint is of step 7."""
    killed = tmp_path / "killed"

    def kill_once(model: CrossEncoder) -> dict[str, float]:
        calls = tmp_path / "calls"
        calls.write_text((calls.read_text() if calls.exists() else "") + ".")
        if len(calls.read_text()) == 3 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    one = run(tmp_path / "one", start, pairs_file)
    options: dict[str, Any] = {"checkpoint_every": 7, "evaluate_every": 5, "workers": 2}
    two = run(tmp_path / "two", start, pairs_file, kill_once, **options)
    assert killed.exists()
    losses = [[record["loss"] for record in result.history if record["step"]] for result in (one, two)]
    assert len(losses[0]) == STEPS
    np.testing.assert_allclose(*losses, rtol=1e-4)
    rows = pairs_by_rule(20, seed=1)
    texts = rows["query"].to_pylist(), rows["product_text"].to_pylist()
    answers = [CrossEncoder.load(result.model).log_probabilities(*texts) for result in (one, two)]
    np.testing.assert_allclose(*answers, atol=1e-3)


@pytest.mark.long
@pytest.mark.ray
def test_the_judge_with_the_best_kappa_is_kept(
    ray_cluster: None, judge_start: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """The judge is evaluated before the first step and every 8 of 32 steps, on pairs that it is not trained on."""
    held_out = pairs_by_rule(60, seed=2)
    queries, texts, grades = (held_out[name].to_pylist() for name in ("query", "product_text", "grade"))

    def kappa(judge: CausalJudge) -> dict[str, float]:
        predicted = log_probabilities(judge, queries, texts).argmax(axis=1)
        return {"quadratic_kappa": float(cohen_kappa_score(grades, predicted, weights="quadratic", labels=[0, 1, 2]))}

    options = {"epochs": 4, "learning_rate": 3e-3, "evaluate_every": 8, "keep_best": "quadratic_kappa"}
    result = run(tmp_path, judge_start, pairs_file, kappa, **options)
    seen = [record["quadratic_kappa"] for record in result.history if "quadratic_kappa" in record]
    assert len(seen) == 5 and seen[0] < 0.3 and max(seen) > 0.9
    assert kappa(CausalJudge.load(result.model))["quadratic_kappa"] == pytest.approx(max(seen), abs=0.02)


@pytest.mark.parametrize(
    ("query", "grade", "reason"),
    [(None, 1, "required, none of them null"), ("lamp", None, "none of them null"), ("lamp", 5, "grade 5 is not 0, 1")],
)
def test_a_bad_pair_is_one_line(start: Path, tmp_path: Path, query: str | None, grade: int | None, reason: str) -> None:
    rows = {"query": ["lamp", query], "product_text": ["desk lamp", "desk"], "grade": [2, grade]}
    pq.write_table(
        pa.table(rows, schema=pa.schema({"query": "string", "product_text": "string", "grade": "int64"})),
        tmp_path / "bad.parquet",
    )
    with pytest.raises(RaylevanceError, match=rf"bad\.parquet: row 1: .*{reason}") as caught:
        Grading(start, tmp_path / "bad.parquet", GradingSettings()).prepare(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_pairs_and_no_model_are_one_line(start: Path, pairs_file: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(pairs_file).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(RaylevanceError, match=r"empty\.parquet: has no graded pairs"):
        Grading(start, tmp_path / "empty.parquet", GradingSettings()).prepare(tmp_path)
    pq.write_table(pa.table({"query": ["sock"]}), tmp_path / "thin.parquet")
    with pytest.raises(RaylevanceError, match="has no column product_text, grade"):
        Grading(start, tmp_path / "thin.parquet", GradingSettings()).prepare(tmp_path / "other")
    with pytest.raises(RaylevanceError, match="no such folder"):
        Grading(Path("/no/such"), pairs_file, GradingSettings()).check()
