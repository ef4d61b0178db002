"""Momentum contrast: steps equal a naive loop; FGM, false negatives, workers, kills and restarts."""

import copy
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from raylevance.models.encoder import Encoder
from raylevance.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from raylevance.training.optimizer import build_optimizer
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.moco.adversarial import word_tables
from raylevance.training.tasks.moco.contrast_plan import CLUSTER, HARD_NEGATIVE, POSITIVE, ContrastBatch
from raylevance.training.tasks.moco.contrast_rows import TokenisedContrastRows, text_hashes
from raylevance.training.tasks.moco.key_queue import KeyQueue, labels_in_sets
from raylevance.training.tasks.moco.targets import build_targets
from raylevance.training.tasks.moco.task import MoCo, MoCoReplica, MoCoSettings
from raylevance.training.trainer import TrainResult, train
from tests.training.conftest import split_machine_settings

OFF: dict[str, Any] = {"mixup": 0, "fgm": 0, "token_dropout": 0, "span_deletion": 0}
NOISY: dict[str, Any] = {"mixup": 2.0, "fgm": 0.1, "token_dropout": 0.2, "span_deletion": 0.4}
STEPS = 12
BASE: dict[str, Any] = {
    "epochs": 2,
    "batch": 7,
    "queue": 8,
    "momentum": 0.9,
    "learning_rate": 1e-3,
    "log_every": 1,
    "cpus_per_worker": 1,
}
"""37 rows make six batches of 7 in an epoch, one of which has two rows. The queue wraps around from step 2."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine threads wait for each other longer than these models compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def opened(backbone: Path, rows: Path, folder: Path, **options: Any) -> MoCoReplica:
    settings, machine = split_machine_settings(BASE | options)
    task = MoCo(backbone, rows, MoCoSettings(**settings))
    task.prepare(folder)
    replica = task.open(None, WorkerContext(folder, seed=0, batch_tokens=machine.batch_tokens))
    replica.train()
    return replica


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Assert that gradients are equal up to float32's rounding: 1e-5 of the largest."""
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-5 * largest)


class NaiveContrast:
    """Momentum contrast in one process, with one text and one pair at a time, and lists as queues."""

    def __init__(self, encoder: Encoder, rows: TokenisedContrastRows, settings: MoCoSettings) -> None:
        self.fast, self.slow, self.rows, self.settings = encoder, copy.deepcopy(encoder), rows, settings
        self.keys: list[tuple[torch.Tensor, int, int]] = []
        self.centroids: list[tuple[torch.Tensor, int]] = []

    def step(self, batch: ContrastBatch) -> torch.Tensor:
        """Return the loss of the batch, add its gradient, and put its keys into the queue."""
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
                slow.copy_(self.settings.momentum * slow + (1 - self.settings.momentum) * fast)
        made = [self.key_vectors(batch, pair) for pair in range(len(batch.rows))]
        loss = torch.zeros(())
        for pair in range(len(batch.rows)):
            anchor = self.anchor(batch, pair)
            mix = batch.mix
            share = float(mix.share[pair]) if mix else 1.0
            loss = loss + share * self.loss(anchor, made, batch, pair)
            if mix:
                loss = loss + (1 - share) * self.loss(anchor, made, batch, int(mix.partner[pair]))
        loss.backward()
        for row, (positive, _, centroid) in zip(batch.rows, made, strict=True):
            self.keys.append((positive, int(self.rows.positive_id[row]), int(self.rows.positive_hash[row])))
            if centroid is not None:
                self.centroids.append((centroid, int(self.rows.cluster_id[row])))
        self.keys, self.centroids = self.keys[-self.settings.queue :], self.centroids[-self.settings.queue :]
        return loss.detach()

    def anchor(self, batch: ContrastBatch, pair: int) -> torch.Tensor:
        side = "item" if batch.anchor_is_item[pair] else "query"
        tower = self.fast.item_tower if side == "item" else self.fast.query_tower
        table = tower.get_input_embeddings().weight
        words = table[torch.from_numpy(batch.anchors[pair].astype(np.int64))].clone()
        if batch.mix:
            for at, token in enumerate(batch.partners[pair].tolist()[: len(words)]):
                share = float(batch.mix.share[pair])
                words[at] = share * words[at] + (1 - share) * table[token]
        return functional.normalize(tower(inputs_embeds=words[None]).last_hidden_state.mean(dim=1)[0], dim=-1)

    @torch.no_grad()
    def key_vectors(
        self, batch: ContrastBatch, pair: int
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor | None]:
        """Return the positive, the hard negatives and the centroid of a pair."""
        vectors: dict[int, list[torch.Tensor]] = {POSITIVE: [], HARD_NEGATIVE: [], CLUSTER: []}
        for at in np.flatnonzero(batch.key_pair == pair):
            ids = torch.from_numpy(batch.keys[at].astype(np.int64))[None]
            vectors[int(batch.key_kind[at])].append(
                self.slow(ids, None, "item" if batch.key_is_item[at] else "query")[0]
            )
        weights = self.rows.cluster_weights(batch.rows[pair]).tolist()
        members = [weight * vector for weight, vector in zip(weights, vectors[CLUSTER], strict=True)]
        centroid = functional.normalize(torch.stack(members).sum(dim=0), dim=0) if members else None
        return vectors[POSITIVE][0], vectors[HARD_NEGATIVE], centroid

    def loss(self, anchor: torch.Tensor, made: list[Any], batch: ContrastBatch, pair: int) -> torch.Tensor:
        """Return the loss of an anchor against the targets of a pair."""
        row = batch.rows[pair]
        positive, hard, centroid = made[pair]
        excluded = set(self.rows.excluded_nodes(row).tolist())
        texts = {int(self.rows.anchor_hash[row]), int(self.rows.positive_hash[row])}
        negatives = [key for key, node, text in self.keys if node not in excluded and text not in texts]
        loss = self.contrast(anchor, positive, negatives + hard)
        if centroid is None:
            return loss
        there = [(made[other][2], int(self.rows.cluster_id[batch.rows[other]])) for other in range(len(made))]
        excluded_clusters = excluded | {int(self.rows.cluster_id[row])}
        others = [
            vector for vector, node in there + self.centroids if vector is not None and node not in excluded_clusters
        ]
        return loss + self.settings.cluster_weight * self.contrast(anchor, centroid, others)

    def contrast(self, anchor: torch.Tensor, own: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
        exponentials = [torch.exp(anchor @ other / self.settings.temperature) for other in [own, *others]]
        return -torch.log(exponentials[0] / torch.stack(exponentials).sum())


@pytest.mark.parametrize("options", [OFF, NOISY | {"fgm": 0}], ids=["plain", "noisy"])
@pytest.mark.parametrize("batch_tokens", [30, 9999])
def test_steps_equal_a_naive_loop(
    tiny_backbone: Path, contrast_file: Path, tmp_path: Path, options: dict[str, Any], batch_tokens: int
) -> None:
    """Loss, gradient, momentum encoder and queues agree over seven steps, one of which has two rows."""
    replica = opened(tiny_backbone, contrast_file, tmp_path, temperature=0.3, batch_tokens=batch_tokens, **options)
    rows = TokenisedContrastRows(tmp_path / "tokens.arrow")
    settings = replica.settings
    naive = NaiveContrast(copy.deepcopy(replica.model), rows, settings)
    for step in range(7):
        batch = replica.plan.load(step)
        loss = replica.backward(step)
        assert float(loss) == pytest.approx(float(naive.step(batch)), rel=1e-5)
        assert_same_gradients(gradients(replica.model), gradients(naive.fast))
        logged = replica.logged()
        total = logged["instance_loss"] + settings.cluster_weight * logged["cluster_loss"]
        assert float(total) * len(batch.rows) == pytest.approx(float(loss), rel=1e-5)
        assert float(logged["queue_fill"]) == pytest.approx(len(naive.keys) / 8)
        with torch.no_grad():
            for ours, theirs in zip(replica.model.parameters(), naive.fast.parameters(), strict=True):
                if ours.grad is not None:
                    ours -= 1e-3 * ours.grad
                    theirs.copy_(ours)
        replica.zero_grad()
        naive.fast.zero_grad()
        for ours, theirs in zip(replica.momentum.parameters(), naive.slow.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    for queue, expected in ((replica.keys, naive.keys), (replica.centroids, naive.centroids)):
        newest = [(int(queue.count) - len(expected) + place) % 8 for place in range(len(expected))]
        assert len(expected) == 8 < int(queue.count)
        vectors = torch.stack([entry[0] for entry in expected])
        torch.testing.assert_close(queue.vectors[newest], vectors, rtol=0, atol=1e-5)
        assert queue.labels[newest].tolist() == [list(entry[1:]) for entry in expected]


def test_the_momentum_encoder_never_learns(tiny_backbone: Path, contrast_file: Path, tmp_path: Path) -> None:
    replica = opened(tiny_backbone, contrast_file, tmp_path, **NOISY)
    replica.backward(0)
    assert not replica.momentum.encoder.training and replica.model.training
    assert all(parameter.grad is None for parameter in replica.momentum.parameters())
    for slow, fast in zip(replica.momentum.encoder.parameters(), replica.model.parameters(), strict=True):
        assert torch.equal(slow, fast)


def test_a_queue_wraps_around_and_masks_what_is_empty() -> None:
    queue = KeyQueue(5, 1, labels=1)
    for start, count in ((0, 3), (3, 0), (3, 4), (7, 5)):
        numbers = torch.arange(start, start + count)
        queue.put(numbers[:, None].float(), numbers[:, None])
        held = [number % 5 for number in range(max(0, start + count - 5), start + count)]
        assert queue.unfilled().tolist() == [place not in held for place in range(5)]
        expected = {number % 5: number for number in range(max(0, start + count - 5), start + count)}
        assert {place: int(queue.labels[place, 0]) for place in expected} == expected
        assert {place: int(queue.vectors[place, 0]) for place in expected} == expected
    assert float(queue.fill()) == 1


def test_labels_are_found_in_the_sets_that_hold_them() -> None:
    rng = np.random.default_rng(0)
    labels, members, set_of = rng.integers(-5, 5, 30), rng.integers(-7, 7, 12), rng.integers(0, 4, 12)
    expected = [[label in members[set_of == index] for label in labels] for index in range(4)]
    assert labels_in_sets(*map(torch.tensor, (labels, members, set_of)), sets=4).tolist() == expected
    nothing = torch.zeros(0, dtype=torch.int64)
    assert not labels_in_sets(torch.tensor(labels), nothing, nothing, sets=4).any()


def test_false_negatives_are_left_out(tiny_backbone: Path, tmp_path: Path) -> None:
    """The queue has a key of an excluded node, one with the anchor's text in other case and space, one with the
    positive's text, and a negative. The centroids are of the own cluster, of an excluded node, and a negative."""
    row = {
        "anchor": "red shoe",
        "anchor_side": "item",
        "positive": "shoe",
        "positive_side": "query",
        "negatives": [],
        "positive_id": 1,
        "related": [5, 6],
        "cluster": ["red", "shoe"],
        "cluster_weights": [0.5, 0.5],
        "cluster_id": 7,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    replica = opened(tiny_backbone, tmp_path / "rows.parquet", tmp_path, **OFF)
    labels = [(5, "desk"), (20, "Red  shoe"), (21, "shoe"), (22, "lamp")]
    vectors = functional.normalize(torch.randn(4, 32), dim=-1)
    replica.keys.put(vectors, torch.tensor([[node, text_hashes([text])[0]] for node, text in labels]))
    replica.centroids.put(vectors[:3], torch.tensor([[7], [6], [8]]))
    batch = replica.plan.load(0)
    targets = build_targets(
        TokenisedContrastRows(tmp_path / "tokens.arrow"), batch, vectors[:3], replica.keys, replica.centroids
    )
    assert targets.excluded_keys[0].tolist() == [True, True, True, False, *[True] * 4]
    assert targets.excluded_centroids[0, 1:].tolist() == [True, True, False, *[True] * 5]


def test_fgm_adds_a_second_pass_and_puts_the_words_back(
    tiny_backbone: Path, contrast_file: Path, tmp_path: Path
) -> None:
    """A step equals two passes by hand; with a momentum near 1 the keys stay the same."""
    options = OFF | {"momentum": 1 - 1e-9}
    first, second = (opened(tiny_backbone, contrast_file, tmp_path, **options) for _ in range(2))
    loss = first.backward(0)
    (table,) = word_tables(second.model)
    (gradient,) = (table.grad for table in word_tables(first.model))
    assert gradient is not None
    with torch.no_grad():
        table += 0.5 * gradient / gradient.square().sum().sqrt()
    second_loss = second.backward(0)
    assert float(second_loss) > float(loss)
    expected = {name: gradient + gradients(second.model)[name] for name, gradient in gradients(first.model).items()}

    replica = opened(tiny_backbone, contrast_file, tmp_path, **(options | {"fgm": 0.5}))
    (words,) = word_tables(replica.model)
    before = words.detach().clone()
    assert float(replica.backward(0)) == float(loss)
    assert torch.equal(words, before)
    assert_same_gradients(gradients(replica.model), expected)


def test_a_killed_step_resumes_to_the_bit(tiny_backbone: Path, contrast_file: Path, tmp_path: Path) -> None:
    """Six steps equal three steps, a checkpoint and three steps of another replica."""
    settings = MoCoSettings(**split_machine_settings(BASE | NOISY)[0])
    whole = opened(tiny_backbone, contrast_file, tmp_path, **NOISY)
    part = opened(tiny_backbone, contrast_file, tmp_path, **NOISY)
    optimizers = [build_optimizer(replica, settings) for replica in (whole, part)]

    def walk(replica: MoCoReplica, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            replica.backward(step)
            for parameter in replica.parameters():
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()

    walk(whole, optimizers[0], range(6))
    walk(part, optimizers[1], range(3))
    save_checkpoint(tmp_path / "checkpoint", part, optimizers[1], Progress(3))
    task = MoCo(tiny_backbone, contrast_file, settings)
    resumed = task.open(tmp_path / "checkpoint" / "model", WorkerContext(tmp_path, seed=0))
    optimizer = build_optimizer(resumed, settings)
    assert load_checkpoint(tmp_path / "checkpoint", resumed, optimizer).step == 3
    assert int(resumed.keys.count) == int(part.keys.count) > 8
    walk(resumed, optimizer, range(3, 6))
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch": 64, "queue": 63}, "queue=63 has no room for the keys of a batch of 64"),
        ({"momentum": 1.0}, "less than 1"),
        ({"token_dropout": 1.0}, "less than 1"),
        ({"temperature": 0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MoCoSettings(**options)


def run(folder: Path, backbone: Path, rows: Path, name: str, **options: Any) -> TrainResult:
    evaluate = options.pop("evaluate", None)
    settings, machine = split_machine_settings(BASE | NOISY | options)
    task = MoCo(backbone, rows, MoCoSettings(**settings))
    return train(task, machine, run_dir=folder / name, output=folder / f"{name}-encoder", evaluate=evaluate)


def queues(result: TrainResult) -> dict[str, torch.Tensor]:
    """Return what the latest checkpoint holds besides the optimiser's moments."""
    run_dir = result.model.with_name(result.model.name.removesuffix("-encoder"))
    newest = max(run_dir.rglob("training.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    tensors = safetensors.torch.load_file(newest)
    return {name: tensor for name, tensor in tensors.items() if name.startswith("extra/")}


def assert_same_run(one: TrainResult, other: TrainResult, tolerance: float) -> None:
    for key in ("loss", "instance_loss", "cluster_loss", "queue_fill"):
        curves = [[record[key] for record in each.history if record["step"]] for each in (one, other)]
        assert len(curves[0]) == STEPS and all(map(math.isfinite, curves[0]))
        np.testing.assert_allclose(*curves, rtol=tolerance)
    ours, theirs = queues(one), queues(other)
    assert ours.keys() == theirs.keys() and len(ours) > 6
    for name, tensor in ours.items():
        exact = not tensor.is_floating_point()
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0 if exact else tolerance)
    vectors = [Encoder.load(each.model).encode_items(["red running shoe", "desk lamp"]) for each in (one, other)]
    np.testing.assert_allclose(*vectors, atol=tolerance)


@pytest.fixture(scope="module")
def quiet(
    ray_cluster: None, tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, contrast_file: Path
) -> TrainResult:
    """Train without interruption on one worker."""
    return run(tmp_path_factory.mktemp("quiet"), tiny_backbone, contrast_file, "run")


@pytest.mark.ray
@pytest.mark.long
def test_two_workers_train_what_one_trains(
    quiet: TrainResult, tmp_path: Path, tiny_backbone: Path, contrast_file: Path
) -> None:
    """With all noise on, losses, queues, momentum encoder and vectors agree to 1e-4 after 12 steps that move them."""
    two = run(tmp_path, tiny_backbone, contrast_file, "run", workers=2)
    assert_same_run(two, quiet, tolerance=1e-4)
    before, after = (Encoder.load(path).encode_items(["red running shoe"]) for path in (tiny_backbone, quiet.model))
    assert not np.allclose(before, after, atol=0.01)


@pytest.mark.ray
@pytest.mark.long
def test_a_killed_worker_goes_on_with_its_queue(
    quiet: TrainResult, tmp_path: Path, tiny_backbone: Path, contrast_file: Path
) -> None:
    """The worker is killed once at step 8 of 12; the newest checkpoint is of step 6."""
    killed, calls = tmp_path / "killed", tmp_path / "calls"

    def kill_once(encoder: Encoder) -> dict[str, float]:
        calls.write_text((calls.read_text() if calls.exists() else "") + ".")
        if len(calls.read_text()) == 3 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    options: dict[str, Any] = {"checkpoint_every": 6, "evaluate_every": 4, "evaluate": kill_once}
    result = run(tmp_path, tiny_backbone, contrast_file, "run", **options)
    assert killed.exists()
    assert_same_run(result, quiet, tolerance=1e-6)
