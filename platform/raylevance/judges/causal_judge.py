"""A causal language model as a judge: the logits of three answer tokens after the prompt are those of the grades.

The weights of the base model are fixed; low-rank adapters learn the task (LoRA: Hu et al. 2021, arXiv 2106.09685).
"""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
import transformers
from pydantic import PositiveInt
from torch import nn

from raylevance.config import Settings
from raylevance.hugging_face import one_line_errors, read_config_with_dropout, without_progress_bars
from raylevance.judges.prompt import JudgePrompt

PROMPT_FILE = "judge_prompt.json"
ADAPTER_FILE = "adapter_config.json"
BATCH_TOKENS = {"cpu": 1_024, "cuda": 16_384}
"""Tokens of one forward pass with its graph, by device (our choice: a wide model holds much memory per token)."""


class LoraSettings(Settings):
    """The low-rank adapters of a language model."""

    rank: PositiveInt = 16
    """The rank of each adapter's two matrices."""
    alpha: PositiveInt = 32
    """The output of the adapters is scaled by `alpha` / `rank`."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """The modules that get an adapter, by PEFT's names."""


@dataclass(frozen=True)
class PromptTokenizer:
    """A tokenizer of pairs as the prompt renders them."""

    tokenizer: Any
    """A Hugging Face tokenizer."""
    prompt: JudgePrompt
    """The prompt about a pair."""

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each pair's prompt, special tokens included, as an engine reads the same text."""
        prompts = [self.prompt.render(query, text) for query, text in zip(queries, texts, strict=True)]
        return cast(list[list[int]], self.tokenizer(prompts, return_attention_mask=False)["input_ids"])


class CausalJudge(nn.Module):
    """A `Grader` that continues a prompt about the pair with the grade."""

    def __init__(self, network: Any, tokenizer: PromptTokenizer) -> None:
        """Wrap `network`, a Hugging Face causal language model or PEFT's adapters around one.

        Raises `RaylevanceError` if an answer of the prompt is not one token of its own.
        """
        super().__init__()
        self.network = network
        self.tokenize = tokenizer
        self._answers = list(tokenizer.prompt.answer_tokens(tokenizer.tokenizer))

    @classmethod
    def from_base(cls, base: str | Path, prompt: JudgePrompt, lora: LoraSettings | None = None, seed: int = 0) -> Self:
        """Put new adapters on the language model at `base`, a folder or a Hugging Face id.

        `seed` decides their weights. They do not change the model's output before they are trained.
        Raises `RaylevanceError` if the base can't be read or lacks the modules to adapt, or if an answer of the prompt
        is not one token of its own.
        """
        from peft import LoraConfig, get_peft_model

        lora = lora or LoraSettings()
        source = str(Path(base).absolute()) if Path(base).is_dir() else str(base)
        targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
        adapters = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"
        )
        with one_line_errors(source, "language model"), torch.random.fork_rng([]):
            torch.manual_seed(seed)
            tokenizer = PromptTokenizer(transformers.AutoTokenizer.from_pretrained(source), prompt)
            return cls(get_peft_model(_read_network(source, torch.float32), adapters), tokenizer)

    @classmethod
    def load(cls, path: str | Path, base_dtype: torch.dtype = torch.float32) -> Self:
        """Load a judge that `save` or `save_merged` wrote.

        `base_dtype` is the number format of the base model below adapters, whose weights are fixed.
        Raises `RaylevanceError` if `path` is not such a judge, or the base below its adapters can't be read.
        """
        base = _base_path(path)
        with one_line_errors(base, "language model"):
            network = _read_network(base, torch.float32 if base == str(path) else base_dtype)
        if base != str(path):
            from peft import PeftModel

            with one_line_errors(str(path), "judge"):
                network = PeftModel.from_pretrained(network, str(path), is_trainable=True)
        return cls(network, load_prompt_tokenizer(path))

    def save(self, path: str | Path) -> None:
        """Write the adapters, in PEFT's format with the name of their base, and the prompt to the folder `path`.

        A judge without adapters is written with all of its weights.
        """
        if not hasattr(self.network, "merge_and_unload"):
            self.save_merged(path)
            return
        shutil.rmtree(path, ignore_errors=True)
        self.network.save_pretrained(str(path), save_embedding_layers=False)
        _write_prompt(Path(path), self.tokenize.prompt)

    def save_merged(self, path: str | Path) -> None:
        """Write the language model with the adapters added to its weights, the tokenizer and the prompt.

        Engines can read the folder. The weights have the number format in which the base was loaded. The tokenizer has
        no chat template, because the model learned to continue the prompt as it is.
        """
        shutil.rmtree(path, ignore_errors=True)
        network = self.network
        if hasattr(network, "merge_and_unload"):
            # On a copy, because merging changes the base in place and unmerging does not restore it to the bit.
            network = copy.deepcopy(network).merge_and_unload()
        with without_progress_bars():
            network.save_pretrained(str(path))
        tokenizer = copy.copy(self.tokenize.tokenizer)
        tokenizer.chat_template = None
        tokenizer.save_pretrained(str(path))
        _write_prompt(Path(path), self.tokenize.prompt)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return cast(torch.device, self.network.device)

    @property
    def pad_id(self) -> int:
        """The token id that pads a batch. Any token would do, since padding is masked."""
        return int(self.tokenize.tokenizer.pad_token_id or 0)

    @property
    def default_batch_tokens(self) -> int:
        """The number of tokens of one forward pass that suits the device, padding included."""
        return BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cuda"])

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return logits float32 [n, 3] of token ids [n, t], padded at the end.

        `mask` [n, t] is None if nothing is padded. The padding is moved to the front, so that all prompts end in the
        same column and the output layer, often larger than all others, is computed only for that column.
        """
        positions = None
        if mask is not None:
            padding = ids.shape[1] - mask.sum(dim=1, keepdim=True)
            shifted = torch.arange(ids.shape[1], device=ids.device) - padding
            source = shifted % ids.shape[1]
            ids, mask, positions = ids.gather(1, source), mask.gather(1, source), shifted.clamp(min=0)
        answer = self.network(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
        )
        logits: torch.Tensor = answer.logits[:, -1, self._answers]
        return logits.float()


def load_prompt_tokenizer(path: str | Path) -> PromptTokenizer:
    """Load the tokenizer and the prompt of the judge at `path` without its weights.

    Raises `RaylevanceError` if `path` is not a judge, or the base below its adapters can't be read.
    """
    base = _base_path(path)
    with one_line_errors(str(path), "judge"):
        prompt = JudgePrompt.model_validate_json((Path(path) / PROMPT_FILE).read_text(encoding="utf-8"))
    with one_line_errors(base, "language model"):
        return PromptTokenizer(transformers.AutoTokenizer.from_pretrained(base), prompt)


def is_causal_judge(path: str | Path) -> bool:
    """Return whether the folder `path` holds a `CausalJudge`, with adapters or merged."""
    return (Path(path) / PROMPT_FILE).is_file()


def _base_path(path: str | Path) -> str:
    """Return the path of the language model: of the base below the adapters in `path`, or `path` itself."""
    adapter = Path(path) / ADAPTER_FILE
    if not adapter.is_file():
        return str(path)
    with one_line_errors(str(path), "judge"):
        return str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])


def _read_network(source: str, dtype: torch.dtype) -> Any:
    """Read a model without dropout, so that a training step is the same on any number of workers (our choice)."""
    config = read_config_with_dropout(source, dropout=0.0)
    return transformers.AutoModelForCausalLM.from_pretrained(source, config=config, use_safetensors=True, dtype=dtype)


def _write_prompt(folder: Path, prompt: JudgePrompt) -> None:
    (folder / PROMPT_FILE).write_text(prompt.model_dump_json(indent=2), encoding="utf-8")
