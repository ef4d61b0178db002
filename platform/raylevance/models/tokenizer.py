"""Texts to token ids, each side with its own prompt and limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

Side = Literal["query", "item"]


@dataclass(frozen=True)
class SideTokenizer:
    """A Hugging Face tokenizer with the prompt and the token limit of each side."""

    tokenizer: Any
    prompts: dict[Side, str]
    limits: dict[Side, int]

    def __call__(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Token ids of each text behind its side's prompt, special tokens included, cut at the side's limit."""
        prompt = self.prompts[side]
        encoded = self.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=self.limits[side],
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return cast(list[list[int]], encoded["input_ids"])

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)
