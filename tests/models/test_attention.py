"""How attention is computed in training."""

from pathlib import Path

import pytest
import torch

from raylevance.models import encoder as encoders
from raylevance.models.batching import pad
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.precision import autocast

TEXTS = ["usb", "red running shoe", "laptop desk lamp chair " * 9, "black leather bag " * 5]


def new_encoder(backbone: Path) -> Encoder:
    torch.manual_seed(0)
    return Encoder.from_backbone(EncoderSettings(backbone=str(backbone)))


def attention(encoder: Encoder) -> set[str]:
    return {tower.config._attn_implementation for tower in (encoder.query_tower, encoder.item_tower)}


def gradient(encoder: Encoder, dtype: torch.dtype | None) -> torch.Tensor:
    """Return the gradient of a weighted sum of the vectors of `TEXTS`, with padding, as one vector."""
    ids, mask = pad(encoder.tokenize(TEXTS, "item"), encoder.tokenize.pad_id)
    encoder.zero_grad()
    with autocast(encoder.device, dtype):
        vectors = encoder(ids, mask, "item")
    weights = torch.linspace(-1, 1, vectors.numel()).reshape(vectors.shape)
    (vectors * weights).sum().backward()
    return torch.cat([each.grad.flatten().double() for each in encoder.parameters() if each.grad is not None])


def test_short_texts_in_bfloat16_are_trained_by_matrix_products(tiny_backbone: Path) -> None:
    encoder = new_encoder(tiny_backbone)
    assert attention(encoder) == {"sdpa"}
    encoder.prepare_for_training(torch.bfloat16)
    assert attention(encoder) == {"eager"}


def test_both_towers_are_prepared(tiny_backbone: Path) -> None:
    encoder = new_encoder(tiny_backbone).with_two_towers()
    encoder.prepare_for_training(torch.bfloat16)
    assert attention(encoder) == {"eager"}


def test_training_in_float32_keeps_the_fused_kernel(tiny_backbone: Path) -> None:
    encoder = new_encoder(tiny_backbone)
    encoder.prepare_for_training(None)
    assert attention(encoder) == {"sdpa"}


def test_long_texts_keep_the_fused_kernel(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = new_encoder(tiny_backbone)
    monkeypatch.setattr(encoders, "SHORT_TEXT", encoder.settings.max_item_tokens - 1)
    encoder.prepare_for_training(torch.bfloat16)
    assert attention(encoder) == {"sdpa"}


def test_products_have_the_gradient_of_float64_as_the_fused_kernel_has(tiny_backbone: Path) -> None:
    expected = gradient(new_encoder(tiny_backbone).double(), None)
    errors = {}
    for way in ("fused", "products"):
        for dtype in (None, torch.bfloat16):
            encoder = new_encoder(tiny_backbone)
            if way == "products":
                encoder.prepare_for_training(torch.bfloat16)
            found = gradient(encoder, dtype)
            errors[way, dtype] = float((found - expected).norm() / expected.norm())
    assert errors["products", None] < 1e-5 and errors["fused", None] < 1e-5
    assert errors["products", torch.bfloat16] < max(0.05, 2 * errors["fused", torch.bfloat16])
    assert errors["fused", torch.bfloat16] > 1e-4, "bfloat16 was used"


def test_a_prepared_encoder_is_saved_as_any_other(tiny_backbone: Path, tmp_path: Path) -> None:
    plain, prepared = new_encoder(tiny_backbone), new_encoder(tiny_backbone)
    prepared.prepare_for_training(torch.bfloat16)
    for name, encoder in {"plain": plain, "prepared": prepared}.items():
        encoder.save(tmp_path / name)
    files = {file.relative_to(tmp_path / "plain") for file in (tmp_path / "plain").rglob("*") if file.is_file()}
    assert files
    for file in files:
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "prepared" / file).read_bytes(), file
    assert attention(Encoder.load(tmp_path / "prepared")) == {"sdpa"}
