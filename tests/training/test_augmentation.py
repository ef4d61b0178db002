"""Noise on item texts and mix-up: which tokens stay, which partners are drawn, and what the encoder reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.models.encoder import Encoder
from raylevance.training.tasks.moco.adversarial import word_embedding
from raylevance.training.tasks.moco.augmentation import ItemNoise, delete_span, drop_tokens
from raylevance.training.tasks.moco.mixup import draw_mix, mixing

SPECIAL = np.array([101, 102], np.int32)

texts = st.lists(st.integers(0, 30), max_size=25).map(lambda ids: np.array([101, *ids, 102], np.int32))
shares = st.floats(0, 1, exclude_max=True)


def is_part_of(short: list[int], whole: list[int]) -> bool:
    """Return whether `short` is `whole` without some of its tokens."""
    rest = iter(whole)
    return all(token in rest for token in short)


@given(texts, shares, shares, st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_noise_only_takes_and_never_all(tokens: np.ndarray, dropout: float, span: float, seed: int) -> None:
    noise = ItemNoise(dropout, span, SPECIAL)
    left = noise(tokens, np.random.default_rng(seed)).tolist()
    assert is_part_of(left, tokens.tolist())
    assert (left[0], left[-1]) == (101, 102) and (len(left) > 2) is (len(tokens) > 2)
    assert left == noise(tokens, np.random.default_rng(seed)).tolist()


@given(texts, shares, st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_a_span_is_one_gap_no_longer_than_its_share(tokens: np.ndarray, share: float, seed: int) -> None:
    numbered = np.array([101, *range(200, 198 + len(tokens)), 102], np.int32)
    left = delete_span(numbered, share, SPECIAL, np.random.default_rng(seed)).tolist()
    gone = [token for token in numbered.tolist() if token not in left]
    assert gone == list(range(gone[0], gone[0] + len(gone))) if gone else left == numbered.tolist()
    assert len(gone) <= share * (len(numbered) - 2)


def test_as_many_tokens_are_dropped_as_asked() -> None:
    tokens = np.arange(20_000, dtype=np.int32)
    left = drop_tokens(tokens, 0.1, SPECIAL, np.random.default_rng(0))
    assert len(left) / len(tokens) == pytest.approx(0.9, abs=0.01)
    lengths = [len(delete_span(tokens[:12], 0.5, SPECIAL, np.random.default_rng(seed))) for seed in range(200)]
    assert set(lengths) == {6, 7, 8, 9, 10, 11, 12}


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_partners_are_others_of_the_same_side(item: list[bool], seed: int) -> None:
    sides = np.array(item)
    mix = draw_mix(sides, 0.2, np.random.default_rng(seed))
    assert (sides[mix.partner] == sides).all() and sorted(mix.partner) == list(range(len(item)))
    alone = np.array([item.count(side) == 1 for side in item])
    assert ((mix.partner == np.arange(len(item))) == alone).all()
    assert ((mix.share >= 0.5) & (mix.share <= 1)).all()


def test_the_encoder_reads_mixed_words(tiny_backbone: Path) -> None:
    """Vectors equal those of embeddings that a loop has mixed, and outside the block nothing is mixed."""
    encoder = Encoder.load(tiny_backbone).eval()
    tower, rows = encoder.item_tower, [[2, 5, 6, 3], [2, 7, 3]]
    partners = [np.array(ids, np.int32) for ids in ([2, 8, 3], [2, 9, 10, 11, 3])]
    ids, mask = torch.tensor([rows[0], [*rows[1], 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    before = encoder(ids, mask, "item")
    with mixing(word_embedding(encoder, "item"), partners, torch.tensor([0.7, 1.0]), 4, pad_id=0):
        mixed = encoder(ids, mask, "item")
    table = tower.get_input_embeddings().weight
    words = table[torch.tensor(rows[0])].clone()
    for position, token in enumerate(partners[0].tolist()):
        words[position] = 0.7 * words[position] + 0.3 * table[token]
    hidden = tower(inputs_embeds=words[None]).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(mixed[:1], torch.nn.functional.normalize(hidden, dim=-1))
    torch.testing.assert_close(mixed[1], before[1])
    assert not torch.allclose(mixed[0], before[0], atol=1e-3)
    assert torch.equal(encoder(ids, mask, "item"), before)
