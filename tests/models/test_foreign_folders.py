"""Folders that other projects publish give unit vectors, or one line that says why they can't be taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from raylevance.errors import RaylevanceError
from raylevance.models.encoder import Encoder, EncoderSettings, check_encoder_settings, load_encoder_tokenizer
from raylevance.models.tokenizer import SideTokenizer

SIZE = 50
NAMES = {
    "Bert": "hidden_size num_hidden_layers num_attention_heads intermediate_size",
    "Gpt": "n_embd n_layer n_head n_inner",
    "Distil": "dim n_layers n_heads hidden_dim",
    "XlNet": "d_model n_layer n_head d_inner",
}
LONG = " ".join(["lamp"] * 200)


def tokenizer(pads: bool = True, special: bool = True, limit: int | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer of 50 words. RoBERTa's padding token has the id 1."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "lamp", *(f"word{n}" for n in range(SIZE - 5))]
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    options: dict[str, Any] = {"pad_token": "<pad>"} if pads else {}
    options |= {"model_max_length": limit} if limit else {}
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named, **options)


def write(
    folder: Path, kind: str, names: str = "Bert", reads: PreTrainedTokenizerFast | None = None, **more: Any
) -> Path:
    """Write a model of one narrow layer with random weights, and its tokenizer."""
    sizes = dict(zip(NAMES[names].split(), (16, 1, 2, 16), strict=True))
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=SIZE, **sizes, **ids, **more)
    torch.manual_seed(0)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    (reads or tokenizer()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "names", "more", "limit"),
    [
        ("Bert", "Bert", {"max_position_embeddings": 24}, 24),
        ("Roberta", "Bert", {"max_position_embeddings": 24}, 22),
        ("XLMRoberta", "Bert", {"max_position_embeddings": 24}, 22),
        ("MPNet", "Bert", {"max_position_embeddings": 24}, 22),
        ("Camembert", "Bert", {"max_position_embeddings": 24}, 22),
        ("DistilBert", "Distil", {"max_position_embeddings": 24}, 24),
        ("Albert", "Bert", {"max_position_embeddings": 24, "embedding_size": 8}, 24),
        ("Electra", "Bert", {"max_position_embeddings": 24, "embedding_size": 8}, 24),
        ("ModernBert", "Bert", {"max_position_embeddings": 24}, 24),
        ("GPT2", "Gpt", {"n_positions": 24}, 24),
        ("Llama", "Bert", {"max_position_embeddings": 24}, 24),
        ("XLNet", "XlNet", {}, 512),
    ],
)
def test_texts_are_cut_where_the_model_ends(
    tmp_path: Path, kind: str, names: str, more: dict[str, Any], limit: int
) -> None:
    folder = write(tmp_path / kind, kind, names, **more)
    encoder = Encoder.load(folder)
    assert encoder.settings.max_item_tokens == limit
    assert len(encoder.tokenize([LONG * 4], "item")[0]) == limit
    vectors = encoder.encode_items([LONG * 4, "lamp word1", "", "lamp"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[3], encoder.encode_items(["lamp"])[0], atol=1e-5)


def test_the_longest_input_works_and_one_token_more_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "Roberta", max_position_embeddings=24)
    fits = EncoderSettings(backbone=str(folder), max_query_tokens=22, max_item_tokens=22)
    assert Encoder.from_backbone(fits).encode_items([LONG]).shape == (1, 16)
    longer = fits.model_copy(update={"max_item_tokens": 23})
    for check in (Encoder.from_backbone, check_encoder_settings):
        with pytest.raises(RaylevanceError, match="reads 22 tokens at most, got a limit of 23"):
            check(longer)


@pytest.mark.parametrize(
    ("stated", "length", "limit"), [(514, 514, 22), (12, 514, 12), (None, 10**30, 22), (None, 9, 9)]
)
def test_the_least_of_all_limits_counts(tmp_path: Path, stated: int | None, length: int, limit: int) -> None:
    folder = write(tmp_path / "model", "Roberta", reads=tokenizer(limit=length), max_position_embeddings=24)
    if stated:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": stated}))
    assert Encoder.load(folder).settings.max_item_tokens == limit


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("kind", ["Bert", "GPT2"])
def test_a_tokenizer_without_padding_gets_some(tmp_path: Path, kind: str, special: bool) -> None:
    """The vectors do not depend on what else is in the batch, also those of texts without a token."""
    reads = tokenizer(pads=False, special=special)
    folder = write(tmp_path / "model", kind, "Gpt" if kind == "GPT2" else "Bert", reads)
    texts = ["lamp", "", "lamp word1 word2 word3", "word4"]
    encoder = Encoder.load(folder)
    alone = np.concatenate([encoder.encode_items([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_items(texts), alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    encoder.save(tmp_path / "saved")
    np.testing.assert_allclose(Encoder.load(tmp_path / "saved").encode_items(texts), alone, atol=1e-5)
    peer = pytest.importorskip("sentence_transformers").SentenceTransformer(str(tmp_path / "saved"))
    np.testing.assert_allclose(peer.encode([texts[0], texts[2]]), alone[[0, 2]], atol=1e-5)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _drop_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if "attention" not in name}
    save_file(weights, file, metadata={"format": "pt"})


def _spoil_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file({name: tensor * torch.nan for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


def _tokenizer_of_another_model(folder: Path) -> None:
    reads = tokenizer()
    reads.add_tokens(["more", "words"])
    reads.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_remove("tokenizer.json"), "not a readable encoder folder"),
        (_remove("config.json"), "not a readable encoder folder"),
        (_remove("model.safetensors"), "not a readable encoder folder"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "not a readable encoder folder"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a readable encoder folder"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "new"}'), "not a readable encoder folder"),
        (_drop_weights, r"lacks \d+ weights, such as .*attention"),
        (_spoil_weights, "its vectors are not finite numbers"),
        (_tokenizer_of_another_model, "its tokenizer has the token id 51, and the model only 50 tokens"),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path: Path, damage: Callable[[Path], object], reason: str) -> None:
    folder = write(tmp_path / "model", "Bert")
    Encoder.load(folder)
    damage(folder)
    with pytest.raises(RaylevanceError, match=reason) as caught:
        Encoder.load(folder)
    assert str(caught.value).startswith(f"{folder}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["T5", "Bart"])
def test_an_encoder_decoder_is_one_line(tmp_path: Path, kind: str) -> None:
    sizes = {"T5": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}}
    bart = {
        f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in (("layers", 1), ("ffn_dim", 8))
    }
    sizes["Bart"] = bart | {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=SIZE, decoder_start_token_id=0, **sizes[kind])
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        RaylevanceError, match=rf"is an encoder-decoder model \({kind.lower()}\); give an encoder"
    ) as caught:
        Encoder.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_of_pictures_is_one_line(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(RaylevanceError, match="not a readable encoder folder") as caught:
        Encoder.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_side_tokenizer_gives_every_text_a_token(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "GPT2", "Gpt", tokenizer(pads=False, special=False))
    reads = load_encoder_tokenizer(folder)
    assert isinstance(reads, SideTokenizer)
    assert reads(["", " ", "lamp"], "query") == [[reads.pad_id], [reads.pad_id], [4]]
