"""The causal judge: the logits of Hugging Face's own forward, adapters that merge, and one-line errors."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from raylevance.errors import RaylevanceError
from raylevance.judges.causal_judge import CausalJudge, LoraSettings, load_prompt_tokenizer
from raylevance.judges.grader import log_probabilities
from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.vllm_engine import load_causal_tokenizer

QUERIES = ["red shoe", "usb charger cable", "lamp", "", "desk chair"]
TEXTS = ["blue sock", "charger cable for laptop " * 5, "desk lamp", "red lamp", ""]


def perturbed(base: Path, **lora: Any) -> CausalJudge:
    """A judge whose adapters change the output of the base."""
    judge = CausalJudge.from_base(base, JudgePrompt.fine_tuned(), LoraSettings(rank=4, alpha=8, **lora))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in judge.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return judge.eval()


def gemma(folder: Path, tokenizer: Path) -> Path:
    """A Gemma 2 model, with sliding attention and capped logits, and the tokenizer in the folder `tokenizer`."""
    words = transformers.AutoTokenizer.from_pretrained(tokenizer)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=8,
        final_logit_softcapping=0.5,
        max_position_embeddings=128,
    )
    transformers.Gemma2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_logits_are_those_of_each_prompt_alone(family: str, tiny_language_model: Path, tmp_path: Path) -> None:
    """The oracle gives one unpadded prompt at a time to Hugging Face's model and reads all logits of its last token."""
    base = tiny_language_model if family == "llama" else gemma(tmp_path / "gemma", tiny_language_model)
    judge = perturbed(base)
    tokenizer = judge.tokenize.tokenizer
    expected = []
    for query, text in zip(QUERIES, TEXTS, strict=True):
        prompt = tokenizer(f"Query: {query}\nProduct: {text.strip()}\nGrade: ", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            last = judge.network(input_ids=prompt).logits[0, -1]
        expected.append(last[tokenizer.convert_tokens_to_ids(["0", "1", "2"])].log_softmax(dim=0).numpy())
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(log_probabilities(judge, QUERIES, TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(log_probabilities(judge, QUERIES, TEXTS, batch_tokens=1), expected, atol=1e-5)


def test_the_head_is_computed_on_the_last_token_alone(tiny_language_model: Path) -> None:
    judge = perturbed(tiny_language_model)
    seen: list[tuple[int, ...]] = []
    judge.network.get_output_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    log_probabilities(judge, QUERIES, TEXTS)
    assert seen == [(5, 1, 64)]


def test_merged_is_what_adapters_give(tiny_language_model: Path, tmp_path: Path) -> None:
    judge = perturbed(tiny_language_model)
    expected = log_probabilities(judge, QUERIES, TEXTS)
    judge.save_merged(tmp_path / "merged")
    merged = CausalJudge.load(tmp_path / "merged")
    np.testing.assert_allclose(log_probabilities(merged, QUERIES, TEXTS), expected, atol=1e-5)
    np.testing.assert_array_equal(log_probabilities(judge, QUERIES, TEXTS), expected)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not any("lora" in name for name, _ in plain.named_parameters())
    assert JudgePrompt.model_validate_json((tmp_path / "merged" / "judge_prompt.json").read_text()).head == ""
    base = transformers.AutoTokenizer.from_pretrained(tiny_language_model)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "merged").get_vocab() == base.get_vocab()


def test_a_judge_is_asked_what_it_was_trained_on(tiny_language_model: Path, tmp_path: Path) -> None:
    """The base is an instruct model: its tokenizer has a chat template, which no prompt of the training is put in."""
    base = shutil.copytree(tiny_language_model, tmp_path / "instruct")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for message in messages %}red {{ message['content'] }}blue {% endfor %}"
    tokenizer.save_pretrained(base)
    judge = perturbed(base)
    trained = judge.tokenize(QUERIES, TEXTS)
    judge.save_merged(tmp_path / "merged")
    merged = load_causal_tokenizer(str(tmp_path / "merged"))
    asked = JudgePrompt.fine_tuned().in_chat(merged)
    prompts = [asked.render(query, text) for query, text in zip(QUERIES, TEXTS, strict=True)]
    assert merged(prompts)["input_ids"] == trained
    assert judge.tokenize.tokenizer.chat_template == tokenizer.chat_template, "the judge at hand is as it was"


def test_a_checkpoint_is_the_adapters_alone(tiny_language_model: Path, tmp_path: Path) -> None:
    judge = perturbed(tiny_language_model)
    judge.save(tmp_path / "judge")
    kept = safetensors.torch.load_file(tmp_path / "judge" / "adapter_model.safetensors")
    learned = [parameter for parameter in judge.parameters() if parameter.requires_grad]
    assert sum(tensor.numel() for tensor in kept.values()) == sum(parameter.numel() for parameter in learned)
    assert list((tmp_path / "judge").glob("*.safetensors")) == [tmp_path / "judge" / "adapter_model.safetensors"]
    again = CausalJudge.load(tmp_path / "judge")
    expected = log_probabilities(judge, QUERIES, TEXTS)
    np.testing.assert_array_equal(log_probabilities(again, QUERIES, TEXTS), expected)
    assert [p.shape for p in again.parameters() if p.requires_grad] == [p.shape for p in learned]
    assert load_prompt_tokenizer(tmp_path / "judge")(["desk"], ["lamp"]) == judge.tokenize(["desk"], ["lamp"])
    half = CausalJudge.load(tmp_path / "judge", torch.bfloat16)
    np.testing.assert_allclose(log_probabilities(half, QUERIES, TEXTS), expected, atol=0.05)


def test_new_adapters_change_nothing(tiny_language_model: Path) -> None:
    judge = CausalJudge.from_base(tiny_language_model, JudgePrompt.fine_tuned())
    with judge.network.disable_adapter():
        before = log_probabilities(judge, QUERIES, TEXTS)
    np.testing.assert_array_equal(log_probabilities(judge, QUERIES, TEXTS), before)


def test_a_folder_without_a_judge_is_one_line(tiny_language_model: Path, tmp_path: Path) -> None:
    prompt = JudgePrompt.fine_tuned()
    with pytest.raises(RaylevanceError, match=r"^/no/such: no such folder"):
        CausalJudge.from_base("/no/such", prompt)
    with pytest.raises(RaylevanceError, match="each must be one token of its own"):
        CausalJudge.from_base(tiny_language_model, prompt.model_copy(update={"answers": ("0", "1", "1 2")}))
    with pytest.raises(RaylevanceError, match="not a readable language model folder: Target modules") as caught:
        CausalJudge.from_base(tiny_language_model, prompt, LoraSettings(target_modules=("nowhere",)))
    assert "\n" not in str(caught.value)
    with pytest.raises(RaylevanceError, match="not a readable judge folder"):
        CausalJudge.load(tiny_language_model)
    perturbed(tiny_language_model).save(tmp_path / "judge")
    adapter = tmp_path / "judge" / "adapter_config.json"
    adapter.write_text(json.dumps(json.loads(adapter.read_text()) | {"base_model_name_or_path": "/gone"}))
    with pytest.raises(RaylevanceError, match=r"^/gone: no such folder, and no language model"):
        CausalJudge.load(tmp_path / "judge")
