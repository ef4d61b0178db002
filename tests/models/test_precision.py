"""The number format depends on the machine and the environment."""

import pytest
import torch

from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.models.precision import PRECISION_VARIABLE, autocast_dtype
from raylevance.training.tasks.contrastive.task import ContrastiveSettings
from workloads.steps.encoder_training import training_settings


@pytest.mark.parametrize(("able", "dtype"), [(True, torch.bfloat16), (False, None)])
def test_a_processor_computes_in_what_it_has(
    monkeypatch: pytest.MonkeyPatch, able: bool, dtype: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    monkeypatch.delenv(PRECISION_VARIABLE)
    assert autocast_dtype("cpu") is dtype
    monkeypatch.setenv(PRECISION_VARIABLE, "fp32")
    assert autocast_dtype("cpu") is None


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, "fp16")
    with pytest.raises(RaylevanceError, match="RAYLEVANCE_PRECISION=fp16: expected auto or fp32"):
        autocast_dtype("cpu")


def test_an_encoder_that_is_asked_for_in_float32_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, "auto")
    automatic = training_settings(ContrastiveSettings(), ProductText())
    monkeypatch.setenv(PRECISION_VARIABLE, "fp32")
    assert training_settings(ContrastiveSettings(), ProductText()) != automatic
