"""Relevance training: batches of two sources, steps equal pairs one by one, workers and kills change nothing."""

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
from torch.nn import functional

from raylevance.errors import RaylevanceError
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from raylevance.training.optimizer import build_optimizer
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.relevance.pair_plan import PairPlan
from raylevance.training.tasks.relevance.task import Relevance, RelevanceReplica, RelevanceSettings
from raylevance.training.trainer import TrainResult, train
from tests.conftest import WORDS
from tests.training.conftest import split_machine_settings

HUMAN, BEHAVIOUR = 13, 41
STEPS = 22
"""Steps of two epochs, each of 41 couples in batches of 4."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine threads wait for each other longer than these models compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs_by_rule(human: int, behaviour: int, seed: int) -> pa.Table:
    """Make pairs that are relevant if the product has the word of the query."""
    rng = np.random.default_rng(seed)
    count = human + behaviour
    words = [rng.permutation(WORDS)[: rng.integers(2, 8)] for _ in range(count)]
    labels = rng.integers(0, 2, count)
    source = ["human"] * human + ["behaviour"] * behaviour
    return pa.table(
        {
            "query": [own[0] for own in words],
            "product_text": [" ".join(own[1 - label :]) for own, label in zip(words, labels, strict=True)],
            "label": labels,
            "weight": [1.0 if name == "human" else 0.3 for name in source],
            "source": source,
        }
    )


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    pq.write_table(pairs_by_rule(HUMAN, BEHAVIOUR, seed=0), file)
    return file


@pytest.fixture(scope="module")
def starts(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make a model with a frozen encoder and one whose encoder is trained, both with heads of random weights."""
    folder = tmp_path_factory.mktemp("start")
    settings = EncoderSettings(backbone=str(tiny_backbone), max_query_tokens=12, max_item_tokens=20)
    Encoder.from_backbone(settings).save(folder / "encoder")
    for name in ("frozen", "tuned"):
        chosen = RelevanceModelSettings(hidden=16, freeze_encoder=name == "frozen")
        model = RelevanceModel.from_encoder(folder / "encoder", chosen)
        torch.manual_seed(0)
        torch.nn.init.normal_(model.head.output.weight, std=0.3)
        model.save(folder / name)
    return {name: folder / name for name in ("frozen", "tuned")}


def opened(task: Relevance, folder: Path, **context: int) -> RelevanceReplica:
    task.prepare(folder)
    return task.open(None, WorkerContext(folder, **({"seed": 0} | context)))


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def plan(human: int, behaviour: int, order: Any, epochs: int = 1) -> PairPlan:
    chosen = np.random.default_rng(0).permutation(np.arange(human + behaviour) < human)
    cost = np.random.default_rng(1).integers(1, 50, human + behaviour)
    return PairPlan(chosen, cost, batch=8, order=order, epochs=epochs, seed=0)


def test_mixed_batches_are_half_human() -> None:
    """An epoch has each behaviour pair once, and each human pair three times or four."""
    mixed = plan(HUMAN, BEHAVIOUR, "mixed")
    human = np.random.default_rng(0).permutation(np.arange(HUMAN + BEHAVIOUR) < HUMAN)
    assert mixed.steps_per_epoch == 11
    epochs = [[mixed.rows(step) for step in range(first, first + 11)] for first in (0, 11)]
    for epoch in epochs:
        assert sorted(map(len, epoch)) == [2, *[8] * 10]
        assert all(human[rows].sum() * 2 == len(rows) for rows in epoch)
        times = np.bincount(np.concatenate(epoch), minlength=HUMAN + BEHAVIOUR)
        assert set(times[~human]) == {1} and set(times[human]) == {3, 4}
    assert np.concatenate(epochs[0]).tolist() != np.concatenate(epochs[1]).tolist()
    alone = plan(0, BEHAVIOUR, "mixed")
    assert sorted(np.concatenate([alone.rows(step) for step in range(alone.steps_per_epoch)])) == list(range(BEHAVIOUR))


def test_behaviour_comes_before_people() -> None:
    """Two epochs of behaviour with six steps each come first, then two of human pairs with two steps each."""
    ordered = plan(HUMAN, BEHAVIOUR, "coarse_to_fine", epochs=2)
    human = np.random.default_rng(0).permutation(np.arange(HUMAN + BEHAVIOUR) < HUMAN)
    assert ordered.steps_per_epoch == 8
    steps = [ordered.rows(step) for step in range(16)]
    for part, source in [(steps[:6], ~human), (steps[6:12], ~human), (steps[12:14], human), (steps[14:], human)]:
        assert sorted(np.concatenate(part)) == np.flatnonzero(source).tolist()
    assert np.concatenate(steps[:6]).tolist() != np.concatenate(steps[6:12]).tolist()


def test_a_training_that_ends_before_people_is_refused(
    starts: dict[str, Path], pairs_file: Path, tmp_path: Path
) -> None:
    """Two epochs of behaviour take 22 steps of four pairs."""
    settings = RelevanceSettings(batch=4, epochs=2, order="coarse_to_fine", max_steps=22)
    with pytest.raises(RaylevanceError, match=r"max_steps=22 with order=coarse_to_fine .* alone takes 22 steps"):
        opened(Relevance(starts["frozen"], pairs_file, settings), tmp_path)
    longer = settings.model_copy(update={"max_steps": 23})
    assert opened(Relevance(starts["frozen"], pairs_file, longer), tmp_path).steps_per_epoch == 15


@pytest.mark.parametrize(("name", "batch_tokens"), [("frozen", 9999), ("tuned", 40)])
def test_a_step_equals_its_pairs_one_by_one(
    starts: dict[str, Path], pairs_file: Path, tmp_path: Path, name: str, batch_tokens: int
) -> None:
    """Loss and gradient equal a loop over the pairs, whose encoder computes in float64."""
    task = Relevance(starts[name], pairs_file, RelevanceSettings(batch=12))
    replica = opened(task, tmp_path, batch_tokens=batch_tokens)
    loss = replica.backward(1)

    oracle, rows = RelevanceModel.load(starts[name]), pq.read_table(pairs_file).to_pylist()
    oracle.encoder.double()
    naive = torch.zeros((), dtype=torch.float64)
    for row in replica.rows(1):
        pair = rows[int(row)]
        query, item = (
            oracle.encode_tokens(torch.tensor(oracle.encoder.tokenize([pair[column]], side)), None, side)
            for column, side in (("query", "query"), ("product_text", "item"))
        )
        logit = oracle(query, item)[0].double()
        naive = naive - pair["weight"] * functional.logsigmoid(logit if pair["label"] else -logit)
    naive.backward()
    assert float(loss) == pytest.approx(naive.item(), rel=1e-5)
    expected, found = gradients(oracle), gradients(replica.model)
    assert expected.keys() == found.keys() and len(found) > 20 * (name == "tuned")
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient.double(), expected[parameter].double(), rtol=0, atol=1e-5 * largest)


def test_the_shares_of_two_workers_add_up(starts: dict[str, Path], pairs_file: Path, tmp_path: Path) -> None:
    task = Relevance(starts["frozen"], pairs_file, RelevanceSettings(batch=10))
    alone, *shares = [opened(task, tmp_path, rank=rank, world_size=size) for rank, size in [(0, 1), (0, 2), (1, 2)]]
    assert float(alone.backward(0)) == pytest.approx(sum(float(share.backward(0)) for share in shares))
    parts = [gradients(share) for share in shares]
    for name, gradient in gradients(alone).items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], gradient, rtol=0, atol=1e-5)


def test_it_learns_the_rule(starts: dict[str, Path], tmp_path: Path) -> None:
    """The pairs are new but their words are not, and the frozen encoder does not move."""
    pq.write_table(pairs_by_rule(200, 200, seed=3), tmp_path / "many.parquet")
    settings = RelevanceSettings(batch=40, learning_rate=1e-2)
    replica = opened(Relevance(starts["frozen"], tmp_path / "many.parquet", settings), tmp_path)
    optimizer = build_optimizer(replica, settings)
    for step in range(100):
        optimizer.zero_grad()
        replica.backward(step)
        optimizer.step()
    unseen = pairs_by_rule(300, 0, seed=4)
    scores = replica.model.score(unseen["query"].to_pylist(), unseen["product_text"].to_pylist())
    assert np.mean((scores > 0) == unseen["label"].to_numpy()) > 0.8
    before = RelevanceModel.load(starts["frozen"]).encoder.encode_items(WORDS)
    np.testing.assert_array_equal(replica.model.encoder.encode_items(WORDS), before)


def run(folder: Path, start: Path, pairs: Path, evaluate: Any = None, **options: Any) -> TrainResult:
    base = {"epochs": 2, "batch": 8, "learning_rate": 1e-3, "log_every": 1, "cpus_per_worker": 1}
    settings, machine = split_machine_settings(base | options)
    task = Relevance(start, pairs, RelevanceSettings(**settings))
    return train(task, machine, run_dir=folder / "run", output=folder / "trained", evaluate=evaluate)


@pytest.mark.long
@pytest.mark.ray
def test_two_workers_one_of_them_killed_train_what_one_trains(
    ray_cluster: None, starts: dict[str, Path], pairs_file: Path, tmp_path: Path
) -> None:
    """Rank 0 of two is killed once at step 10 of 22; the newest checkpoint is of step 7."""
    killed = tmp_path / "killed"

    def kill_once(model: RelevanceModel) -> dict[str, float]:
        calls = tmp_path / "calls"
        calls.write_text((calls.read_text() if calls.exists() else "") + ".")
        if len(calls.read_text()) == 3 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    one = run(tmp_path / "one", starts["tuned"], pairs_file)
    options: dict[str, Any] = {"checkpoint_every": 7, "evaluate_every": 5, "workers": 2}
    two = run(tmp_path / "two", starts["tuned"], pairs_file, kill_once, **options)
    assert killed.exists()
    losses = [[record["loss"] for record in result.history if record["step"]] for result in (one, two)]
    assert len(losses[0]) == STEPS
    np.testing.assert_allclose(*losses, rtol=1e-4)
    rows = pairs_by_rule(20, 0, seed=1)
    texts = rows["query"].to_pylist(), rows["product_text"].to_pylist()
    answers = [RelevanceModel.load(result.model).score(*texts) for result in (one, two)]
    np.testing.assert_allclose(*answers, atol=1e-3)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("query", None, "none of them null"),
        ("label", 2, "label 2 is not 0 or 1"),
        ("weight", 0.0, r"weight 0\.0 is not a number above 0"),
        ("weight", float("nan"), "weight nan is not a number above 0"),
        ("source", "judge", "source 'judge' is not human or behaviour"),
    ],
)
def test_a_bad_pair_is_one_line(
    starts: dict[str, Path], tmp_path: Path, column: str, value: object, reason: str
) -> None:
    rows = pairs_by_rule(3, 0, seed=0).to_pylist()
    rows[1][column] = value
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bad.parquet")
    with pytest.raises(RaylevanceError, match=rf"bad\.parquet: row 1: .*{reason}") as caught:
        Relevance(starts["frozen"], tmp_path / "bad.parquet", RelevanceSettings()).prepare(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_column_and_no_model_are_one_line(starts: dict[str, Path], pairs_file: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(pairs_file).drop_columns(["weight", "source"]), tmp_path / "thin.parquet")
    with pytest.raises(RaylevanceError, match="has no column weight, source"):
        Relevance(starts["frozen"], tmp_path / "thin.parquet", RelevanceSettings()).prepare(tmp_path)
    with pytest.raises(RaylevanceError, match="no such folder, and no relevance model"):
        Relevance(Path("/no/such"), pairs_file, RelevanceSettings()).check()
