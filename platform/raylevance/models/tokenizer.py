"""Turn texts into token ids. Queries and items each have their own prompt and token limit."""

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
        """Return the token ids of each text after the prompt of its side, cut at the limit of that side.

        Special tokens are included, and count towards the limit. A text without any token, such as an empty one to a
        tokenizer without special tokens, is read as one padding token.
        """
        prompt = self.prompts[side]
        encoded = self.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=self.limits[side],
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return [ids or [self.pad_id] for ids in cast(list[list[int]], encoded["input_ids"])]

    @property
    def pad_id(self) -> int:
        """The id of the padding token."""
        return int(self.tokenizer.pad_token_id)
