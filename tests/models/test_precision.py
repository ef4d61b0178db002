"""The number format depends on the machine and the environment."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raylevance.artifacts import Store
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.encoding import load_on_device
from raylevance.inference.search import load_query_encoder
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.precision import PRECISION_VARIABLE, autocast_dtype, prepare_for_inference
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


@pytest.fixture
def encoder_folder(tmp_path: Path, tiny_backbone: Path) -> Path:
    folder = tmp_path / "encoder"
    Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), projection=16)).save(folder)
    return folder


@pytest.mark.parametrize(("able", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
@pytest.mark.parametrize("texts", [["red shoe"], ["red running shoe", "usb", "", "laptop desk lamp chair " * 9]])
def test_weights_that_are_cast_once_give_the_vectors_of_autocast(
    monkeypatch: pytest.MonkeyPatch, encoder_folder: Path, able: bool, dtype: torch.dtype, texts: list[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    monkeypatch.delenv(PRECISION_VARIABLE)
    encoder, cast = Encoder.load(encoder_folder), Encoder.load(encoder_folder)
    prepare_for_inference(cast)
    linear = [layer for layer in cast.modules() if isinstance(layer, torch.nn.Linear)]
    assert linear and {layer.weight.dtype for layer in linear} == {dtype}
    assert not cast.training
    for side in ("query", "item"):
        np.testing.assert_array_equal(cast.encode(texts, side), encoder.encode(texts, side))


def test_every_encoder_that_only_encodes_has_its_weights_cast(
    monkeypatch: pytest.MonkeyPatch, encoder_folder: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with store.publish("encoder/tiny") as draft:
        Encoder.load(encoder_folder).save(draft.path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.delenv(PRECISION_VARIABLE)
    for encoder in (load_query_encoder(store, draft.ref), load_on_device(encoder_folder)):
        assert encoder.query_tower.encoder.layer[0].output.dense.weight.dtype is torch.bfloat16
    assert Encoder.load(encoder_folder).query_tower.encoder.layer[0].output.dense.weight.dtype is torch.float32


def test_encoding_leaves_the_training_mode_as_it_is(encoder_folder: Path) -> None:
    encoder = Encoder.load(encoder_folder)
    for mode in (True, False):
        encoder.train(mode)
        encoder.encode_queries(["red shoe"])
        assert {module.training for module in encoder.modules()} == {mode}
