"""A step computed in parts equals the step computed whole."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.training.optimizer import build_optimizer, set_rate
from raylevance.training.step import Compute, backward
from raylevance.training.tasks.contrastive.batches import BatchPlan
from raylevance.training.tasks.contrastive.instances import Instances, tokenise
from raylevance.training.tasks.contrastive.objectives import Objective
from raylevance.training.tasks.contrastive.task import ContrastiveSettings, EncoderTrainee, build_objective

pytestmark = pytest.mark.ray


def gradients(
    backbone: Path, tokens: Path, settings: ContrastiveSettings, compute: Compute, dropout: float = 0.0
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of step 0."""
    encoder = Encoder.from_backbone(EncoderSettings(backbone=str(backbone), projection=16, dropout=dropout)).train()
    objective: Objective = build_objective(settings)
    plan = BatchPlan(Instances(tokens), batch=settings.batch, seed=0, in_batch=objective.in_batch)
    torch.manual_seed(7)
    losses = [backward(encoder, objective, batch, compute) for batch in plan.load(0, settings.accumulate)]
    named = [*encoder.named_parameters(), *objective.named_parameters()]
    return float(sum(losses)), {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def assert_same(one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]]) -> None:
    """Equal but for float32's rounding: to 1e-5 of the loss, and of the largest gradient."""
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in one[1].values())
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("loss", ["supcon", "infonce", "triplet", "circle"])
@pytest.mark.parametrize("chunk", [1, 5])
def test_gradcache_equals_the_whole_batch(tiny_backbone: Path, tokens_file: Path, loss: str, chunk: int) -> None:
    settings = ContrastiveSettings(loss=loss, batch=12)
    whole = gradients(tiny_backbone, tokens_file, settings, Compute(100_000))
    assert_same(whole, gradients(tiny_backbone, tokens_file, settings, Compute(100_000, chunk)))


@pytest.mark.parametrize("loss", ["supcon", "infonce"])
def test_gradcache_repeats_its_dropout(tiny_backbone: Path, tokens_file: Path, loss: str) -> None:
    """The same groups draw the same masks in the same order, with a graph at once or replayed."""
    settings = ContrastiveSettings(loss=loss, batch=12)
    whole = gradients(tiny_backbone, tokens_file, settings, Compute(60), dropout=0.2)
    cached = gradients(tiny_backbone, tokens_file, settings, Compute(60, chunk=1000), dropout=0.2)
    assert_same(whole, cached)
    assert whole[0] != pytest.approx(gradients(tiny_backbone, tokens_file, settings, Compute(60))[0], rel=1e-3)


@pytest.mark.parametrize("loss", ["supcon", "triplet", "circle"])
@pytest.mark.parametrize("parts", [2, 5, 12])
def test_accumulation_equals_the_whole_batch(tiny_backbone: Path, tokens_file: Path, loss: str, parts: int) -> None:
    whole = gradients(tiny_backbone, tokens_file, ContrastiveSettings(loss=loss, batch=12), Compute(100_000))
    settings = ContrastiveSettings(loss=loss, batch=12, accumulate=parts)
    assert_same(whole, gradients(tiny_backbone, tokens_file, settings, Compute(100_000)))


def test_length_groups_do_not_change_the_gradient(tiny_backbone: Path, tokens_file: Path) -> None:
    settings = ContrastiveSettings(batch=12)
    whole = gradients(tiny_backbone, tokens_file, settings, Compute(100_000))
    assert_same(whole, gradients(tiny_backbone, tokens_file, settings, Compute(30)))


def test_the_rate_rises_then_falls_to_zero(tiny_backbone: Path, tokens_file: Path) -> None:
    settings = ContrastiveSettings(learning_rate=1.0, temperature_learning_rate=2.0)
    plan = BatchPlan(Instances(tokens_file), batch=12, seed=0, in_batch=False)
    optimizer = build_optimizer(EncoderTrainee(Encoder.load(tiny_backbone), plan, settings, None), settings)
    rates = []
    for step in range(10):
        set_rate(optimizer, step, total=10, warmup_ratio=0.4)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert [rate[0] for rate in rates] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert rates[3] == pytest.approx([1, 1, 2])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0, 0]


def test_a_mean_over_instances_is_the_sum_divided(tiny_backbone: Path, tokens_file: Path) -> None:
    found = {}
    for reduction, divisor in (("sum", 1), ("mean", 12)):
        settings = ContrastiveSettings(batch=12, reduction=reduction)
        encoder = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone)))
        plan = BatchPlan(Instances(tokens_file), batch=12, seed=0, in_batch=False)
        trainee = EncoderTrainee(encoder, plan, settings, None)
        loss = float(trainee.backward(0))
        gradients = {name: p.grad * divisor for name, p in trainee.named_parameters() if p.grad is not None}
        found[reduction] = loss, gradients
    assert_same(found["sum"], found["mean"])


@pytest.mark.parametrize(("chunk", "accumulate"), [(None, 1), (3, 1), (None, 4)])
def test_variants_are_drawn_to_their_queries(
    tiny_backbone: Path, instances_file: Path, tmp_path: Path, chunk: int | None, accumulate: int
) -> None:
    """The loss grows by the weighted sum of `1 - cosine`, over vectors made one by one."""
    table = pq.read_table(instances_file)
    variants = [f"{query} desk" if row % 3 else None for row, query in enumerate(table["query"].to_pylist())]
    pq.write_table(table.append_column("variant", pa.array(variants)), tmp_path / "instances.parquet")
    tokenise(tmp_path / "instances.parquet", tiny_backbone, tmp_path / "tokens.arrow")
    losses = {
        weight: gradients(
            tiny_backbone,
            tmp_path / "tokens.arrow",
            ContrastiveSettings(batch=12, variant_weight=weight, accumulate=accumulate),
            Compute(100_000, chunk),
        )[0]
        for weight in (0.0, 0.5)
    }
    encoder = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), projection=16))
    rows = BatchPlan(Instances(tmp_path / "tokens.arrow"), batch=12, seed=0, in_batch=False).rows(0)
    pairs = [(table["query"][int(row)].as_py(), variants[row]) for row in rows if variants[row]]
    expected = sum(1 - float(np.prod(encoder.encode_queries(list(pair)), axis=0).sum()) for pair in pairs)
    assert losses[0.5] - losses[0.0] == pytest.approx(0.5 * expected, rel=1e-4)
