"""How many tokens a Hugging Face transformer reads, and how its tokenizer pads."""

from pathlib import Path
from typing import Any

import torch
import transformers

UNSTATED = 512
"""The limit of a model without positions of its own, where the tokenizer states none either (our choice)."""

NO_LIMIT = 1_000_000
"""From here, the `model_max_length` of a tokenizer means that it has no limit: Hugging Face writes 1e30."""


def longest_input(config: Any) -> int | None:
    """Return the number of tokens that a model of this configuration reads; None if any number.

    RoBERTa and its relatives (XLM-R, MPNet, CamemBERT, Longformer) number positions from `padding_idx + 1`, so they
    read fewer tokens than they have positions. Their table of positions shows it, which is looked at without weights.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return None
    with torch.device("meta"), torch.random.fork_rng([]):
        model = transformers.AutoModel.from_config(config)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(positions) - int(module.padding_idx) - 1
    return int(positions)


def token_limit(config: Any, tokenizer: Any, stated: int | None = None) -> int:
    """Return the number of tokens to cut texts to: the least of those of the model, the tokenizer and `stated`."""
    limits = [longest_input(config), stated or int(tokenizer.model_max_length)]
    return min((limit for limit in limits if limit and limit < NO_LIMIT), default=UNSTATED)


def read_tokenizer(source: str | Path, **options: Any) -> Any:
    """Return the tokenizer at `source`. One without a padding token gets one that it has: padding is masked anyway."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source), **options)
    if tokenizer.pad_token is None:
        tokens = (tokenizer.eos_token, tokenizer.sep_token, tokenizer.unk_token, tokenizer.convert_ids_to_tokens(0))
        tokenizer.pad_token = next(token for token in tokens if token is not None)
    return tokenizer
