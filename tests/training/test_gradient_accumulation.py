"""A step that is computed in parts equals the step computed as a whole."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.training.optimizer import build_optimizer, set_rate
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.contrastive.instance_plan import InstancePlan
from raylevance.training.tasks.contrastive.objectives import Objective
from raylevance.training.tasks.contrastive.task import (
    ContrastiveReplica,
    ContrastiveSettings,
    backward_batch,
    build_objective,
)
from raylevance.training.tasks.contrastive.tokenised_instances import INSTANCES, TokenisedInstances
from raylevance.training.text_groups import ForwardOptions
from raylevance.training.token_file import write_tokens

pytestmark = pytest.mark.ray


def plan_of(tokens: Path, batch: int, in_batch: bool = False) -> InstancePlan:
    """Plan batches of the instances in `tokens` on one worker."""
    context = WorkerContext(tokens.parent, seed=0)
    return InstancePlan(TokenisedInstances(tokens), context, batch=batch, in_batch=in_batch)


def replica_of(encoder: Encoder, tokens: Path, settings: ContrastiveSettings) -> ContrastiveReplica:
    """Open a replica on one worker, in batches of 12."""
    return ContrastiveReplica(encoder, plan_of(tokens, 12), settings, WorkerContext(tokens.parent, seed=0))


def gradients(
    backbone: Path, tokens: Path, settings: ContrastiveSettings, options: ForwardOptions, dropout: float = 0.0
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss and the gradients of step 0."""
    encoder = Encoder.from_backbone(EncoderSettings(backbone=str(backbone), projection=16, dropout=dropout)).train()
    objective: Objective = build_objective(settings)
    plan = plan_of(tokens, settings.batch, objective.in_batch)
    torch.manual_seed(7)
    losses = [backward_batch(encoder, objective, batch, options) for batch in plan.load(0, settings.accumulate)]
    named = [*encoder.named_parameters(), *objective.named_parameters()]
    return float(sum(losses)), {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def assert_same(one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]]) -> None:
    """Assert that both are equal up to float32's rounding: 1e-5 of the loss, and of the largest gradient."""
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in one[1].values())
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("loss", ["supcon", "infonce", "triplet", "circle"])
@pytest.mark.parametrize("chunk", [1, 5])
def test_gradcache_equals_the_whole_batch(tiny_backbone: Path, tokens_file: Path, loss: str, chunk: int) -> None:
    settings = ContrastiveSettings(loss=loss, batch=12)
    whole = gradients(tiny_backbone, tokens_file, settings, ForwardOptions(100_000))
    assert_same(whole, gradients(tiny_backbone, tokens_file, settings, ForwardOptions(100_000, chunk)))


@pytest.mark.parametrize("loss", ["supcon", "infonce"])
def test_gradcache_repeats_its_dropout(tiny_backbone: Path, tokens_file: Path, loss: str) -> None:
    """Dropout draws the same masks for the second computation of a group as for the first."""
    settings = ContrastiveSettings(loss=loss, batch=12)
    whole = gradients(tiny_backbone, tokens_file, settings, ForwardOptions(60), dropout=0.2)
    cached = gradients(tiny_backbone, tokens_file, settings, ForwardOptions(60, gradcache_chunk=1000), dropout=0.2)
    assert_same(whole, cached)
    assert whole[0] != pytest.approx(gradients(tiny_backbone, tokens_file, settings, ForwardOptions(60))[0], rel=1e-3)


@pytest.mark.parametrize("loss", ["supcon", "triplet", "circle"])
@pytest.mark.parametrize("parts", [2, 5, 12])
def test_accumulation_equals_the_whole_batch(tiny_backbone: Path, tokens_file: Path, loss: str, parts: int) -> None:
    whole = gradients(tiny_backbone, tokens_file, ContrastiveSettings(loss=loss, batch=12), ForwardOptions(100_000))
    settings = ContrastiveSettings(loss=loss, batch=12, accumulate=parts)
    assert_same(whole, gradients(tiny_backbone, tokens_file, settings, ForwardOptions(100_000)))


def test_length_groups_do_not_change_the_gradient(tiny_backbone: Path, tokens_file: Path) -> None:
    settings = ContrastiveSettings(batch=12)
    whole = gradients(tiny_backbone, tokens_file, settings, ForwardOptions(100_000))
    assert_same(whole, gradients(tiny_backbone, tokens_file, settings, ForwardOptions(30)))


def test_the_rate_rises_then_falls_to_zero(tiny_backbone: Path, tokens_file: Path) -> None:
    settings = ContrastiveSettings(learning_rate=1.0, temperature_learning_rate=2.0)
    optimizer = build_optimizer(replica_of(Encoder.load(tiny_backbone), tokens_file, settings), settings)
    rates = []
    for step in range(10):
        set_rate(optimizer, step, total=10, warmup_ratio=0.4)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert [rate[0] for rate in rates] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert rates[3] == pytest.approx([1, 1, 2])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0, 0]


def test_parameter_groups_learn_at_their_own_rates(tiny_backbone: Path, tokens_file: Path) -> None:
    """The longest prefix counts. Matrices are decayed in every group, other parameters in none."""
    settings = ContrastiveSettings(learning_rate=1.0, temperature_learning_rate=2.0)
    encoder = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), projection=16))
    replica = replica_of(encoder, tokens_file, settings)
    replica.parameter_groups = {**replica.parameter_groups, "model.": 3.0, "model.query_head.": 4.0}
    groups = build_optimizer(replica, settings).param_groups
    names = {parameter: name for name, parameter in replica.named_parameters()}
    rates = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
    assert rates["objective.scale.log_scale"] == 2
    assert rates["model.query_head.weight"] == 4
    assert {rate for name, rate in rates.items() if "query_head" not in name and "objective" not in name} == {3}
    assert all(group["weight_decay"] == (0.01 if p.ndim > 1 else 0) for group in groups for p in group["params"])


def test_a_parameter_group_without_parameters_is_refused(tiny_backbone: Path, tokens_file: Path) -> None:
    settings = ContrastiveSettings()
    replica = replica_of(Encoder.load(tiny_backbone), tokens_file, settings)
    replica.parameter_groups = {"model.haed.": 1e-3}
    with pytest.raises(ValueError, match=r"no parameter starts with 'model\.haed\.'; .* with model\., objective\."):
        build_optimizer(replica, settings)


def test_a_frozen_parameter_group_is_left_out(tiny_backbone: Path, tokens_file: Path) -> None:
    settings = ContrastiveSettings()
    replica = replica_of(Encoder.load(tiny_backbone), tokens_file, settings)
    replica.parameter_groups = {**replica.parameter_groups, "model.": 1e-3}
    replica.model.requires_grad_(False)
    assert [group["lr"] for group in build_optimizer(replica, settings).param_groups] == [1e-3]


def test_a_mean_over_instances_is_the_sum_divided(tiny_backbone: Path, tokens_file: Path) -> None:
    found = {}
    for reduction, divisor in (("sum", 1), ("mean", 12)):
        settings = ContrastiveSettings(batch=12, reduction=reduction)
        encoder = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone)))
        replica = replica_of(encoder, tokens_file, settings)
        loss = float(replica.backward(0))
        gradients = {name: p.grad * divisor for name, p in replica.named_parameters() if p.grad is not None}
        found[reduction] = loss, gradients
    assert_same(found["sum"], found["mean"])


@pytest.mark.parametrize(("chunk", "accumulate"), [(None, 1), (3, 1), (None, 4)])
def test_variants_are_drawn_to_their_queries(
    tiny_backbone: Path, instances_file: Path, tmp_path: Path, chunk: int | None, accumulate: int
) -> None:
    """The loss grows by the weighted sum of `1 - cosine` of vectors that are computed one by one."""
    table = pq.read_table(instances_file)
    variants = [f"{query} desk" if row % 3 else None for row, query in enumerate(table["query"].to_pylist())]
    pq.write_table(table.append_column("variant", pa.array(variants)), tmp_path / "instances.parquet")
    write_tokens(tmp_path / "instances.parquet", tiny_backbone, tmp_path / "tokens.arrow", INSTANCES)
    losses = {
        weight: gradients(
            tiny_backbone,
            tmp_path / "tokens.arrow",
            ContrastiveSettings(batch=12, variant_weight=weight, accumulate=accumulate),
            ForwardOptions(100_000, chunk),
        )[0]
        for weight in (0.0, 0.5)
    }
    encoder = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), projection=16))
    rows = plan_of(tmp_path / "tokens.arrow", 12).rows(0)
    pairs = [(table["query"][int(row)].as_py(), variants[row]) for row in rows if variants[row]]
    expected = sum(1 - float(np.prod(encoder.encode_queries(list(pair)), axis=0).sum()) for pair in pairs)
    assert losses[0.5] - losses[0.0] == pytest.approx(0.5 * expected, rel=1e-4)
