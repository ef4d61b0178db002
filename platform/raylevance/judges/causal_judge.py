"""The judge as a causal language model: the logits of three answer tokens after the prompt are those of the grades.

Its base stays as it is; low-rank adapters (LoRA: Hu et al. 2021, arXiv 2106.09685) learn the task.
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
from raylevance.hugging_face import one_line_errors, read_config, without_progress
from raylevance.judges.prompt import JudgePrompt

PROMPT = "judge_prompt.json"
ADAPTER = "adapter_config.json"
BATCH_TOKENS = {"cpu": 1_024, "cuda": 16_384}


class LoraSettings(Settings):
    """The adapters: `alpha` / `rank` scales what they add; `target_modules` as PEFT has them."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True)
class PromptTokenizer:
    """Pairs as the prompt renders them to token ids, special tokens included, as an engine reads the same text."""

    tokenizer: Any
    prompt: JudgePrompt

    def __call__(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        prompts = [self.prompt.render(query, text) for query, text in zip(queries, texts, strict=True)]
        return cast(list[list[int]], self.tokenizer(prompts, return_attention_mask=False)["input_ids"])


class CausalJudge(nn.Module):
    """Pairs of a query and a product's text to logits of the grades 0, 1, 2."""

    def __init__(self, network: Any, tokenizer: PromptTokenizer) -> None:
        """`network`: a Hugging Face causal language model, or PEFT's adapters around one.

        Raises `RaylevanceError` where an answer of the prompt is not one token of its own.
        """
        super().__init__()
        self.network = network
        self.tokenize = tokenizer
        self._answers = list(tokenizer.prompt.answer_tokens(tokenizer.tokenizer))

    @classmethod
    def from_base(cls, base: str | Path, prompt: JudgePrompt, lora: LoraSettings | None = None, seed: int = 0) -> Self:
        """New adapters, random by `seed`, on the language model at `base` (a folder or a Hugging Face id).

        They change nothing until they learn. Raises `RaylevanceError` where the base can't be read, or lacks the
        modules to adapt, or an answer of the prompt is not one token.
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
        """The judge that `save` or `save_merged` wrote; `base_dtype` is of the weights below adapters, which are fixed.

        Raises `RaylevanceError` where `path` is none, or the base below its adapters is gone.
        """
        base = _base(path)
        with one_line_errors(base, "language model"):
            network = _read_network(base, torch.float32 if base == str(path) else base_dtype)
        if base != str(path):
            from peft import PeftModel

            with one_line_errors(str(path), "judge"):
                network = PeftModel.from_pretrained(network, str(path), is_trainable=True)
        return cls(network, load_tokenizer(path))

    def save(self, path: str | Path) -> None:
        """Write the adapters (PEFT's format, with the name of their base) and the prompt to the folder `path`.

        A judge without adapters is written whole.
        """
        if not hasattr(self.network, "merge_and_unload"):
            self.save_merged(path)
            return
        shutil.rmtree(path, ignore_errors=True)
        self.network.save_pretrained(str(path), save_embedding_layers=False)
        _write_prompt(Path(path), self.tokenize.prompt)

    def save_merged(self, path: str | Path) -> None:
        """Write one language model as engines read it: the adapters added to its weights, with tokenizer and prompt.

        The weights are in the number format in which the base was loaded.
        """
        shutil.rmtree(path, ignore_errors=True)
        network = self.network
        if hasattr(network, "merge_and_unload"):
            # Merging changes the base in place, and taking it back would not restore its last bits.
            network = copy.deepcopy(network).merge_and_unload()
        with without_progress():
            network.save_pretrained(str(path))
        self.tokenize.tokenizer.save_pretrained(str(path))
        _write_prompt(Path(path), self.tokenize.prompt)

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.network.device)

    @property
    def pad_id(self) -> int:
        """Any token would do: what stands in the place of padding is masked."""
        return int(self.tokenize.tokenizer.pad_token_id or 0)

    @property
    def default_batch_tokens(self) -> int:
        """Tokens of one forward pass with its graph, padding included (our choice: a wide model holds much a token)."""
        return BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cuda"])

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Logits float32 [n, 3] of token ids [n, t], padded at the end; `mask` [n, t] is None where nothing is padded.

        The padding is moved to the front, so that every prompt ends in one column, and the head of the model, often
        larger than its layers, is computed on that column alone.
        """
        positions = None
        if mask is not None:
            places = torch.arange(ids.shape[1], device=ids.device) - (ids.shape[1] - mask.sum(dim=1, keepdim=True))
            source = places % ids.shape[1]
            ids, mask, positions = ids.gather(1, source), mask.gather(1, source), places.clamp(min=0)
        answer = self.network(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
        )
        logits: torch.Tensor = answer.logits[:, -1, self._answers]
        return logits.float()


def load_tokenizer(path: str | Path) -> PromptTokenizer:
    """The tokenizer and the prompt of the judge at `path`, without its weights. Raises as `CausalJudge.load`."""
    base = _base(path)
    with one_line_errors(str(path), "judge"):
        prompt = JudgePrompt.model_validate_json((Path(path) / PROMPT).read_text(encoding="utf-8"))
    with one_line_errors(base, "language model"):
        return PromptTokenizer(transformers.AutoTokenizer.from_pretrained(base), prompt)


def is_causal_judge(path: str | Path) -> bool:
    """Whether the folder `path` is of a `CausalJudge`, with adapters or merged."""
    return (Path(path) / PROMPT).is_file()


def _base(path: str | Path) -> str:
    """Where the language model is: below the adapters in `path`, or `path` itself."""
    adapter = Path(path) / ADAPTER
    if not adapter.is_file():
        return str(path)
    with one_line_errors(str(path), "judge"):
        return str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])


def _read_network(source: str, dtype: torch.dtype) -> Any:
    """Without dropout: a step is then the same on any number of workers (our choice)."""
    config = read_config(source, dropout=0.0)
    return transformers.AutoModelForCausalLM.from_pretrained(source, config=config, use_safetensors=True, dtype=dtype)


def _write_prompt(folder: Path, prompt: JudgePrompt) -> None:
    (folder / PROMPT).write_text(prompt.model_dump_json(indent=2), encoding="utf-8")
