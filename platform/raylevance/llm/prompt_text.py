"""Text that is put into a prompt as data, and answers that are a single token."""

import re
from collections.abc import Sequence
from typing import Any

from raylevance.errors import RaylevanceError

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_WHITE_SPACE = re.compile(r"\s+")
_CHAT_TOKEN = re.compile(r"</?[|\uff5c]?[A-Za-z_][\w\u2581-]*[|\uff5c]?>|\[/?INST\]")
"""The tokens with which chat templates mark turns. A tokenizer reads them as control tokens wherever they stand."""


def one_line(text: str, max_characters: int) -> str:
    """Return `text` on one line, without control characters and chat-template tokens, cut to `max_characters`."""
    without_tokens = _CHAT_TOKEN.sub(" ", _CONTROL_CHARACTERS.sub(" ", text))
    return _WHITE_SPACE.sub(" ", without_tokens).strip()[:max_characters].rstrip()


def single_tokens(tokenizer: Any, answers: Sequence[str]) -> tuple[int, ...]:
    """Return the token id of each answer.

    Raises `RaylevanceError` if an answer is unknown to the tokenizer or takes several tokens, or if two are equal.
    """
    tokens = [tokenizer.encode(answer, add_special_tokens=False) for answer in answers]
    unknown = getattr(tokenizer, "unk_token_id", None)
    if any(len(ids) != 1 or ids[0] == unknown for ids in tokens) or len({ids[0] for ids in tokens}) < len(tokens):
        raise RaylevanceError(f"answers {tuple(answers)}: each must be one token of its own for this tokenizer")
    return tuple(ids[0] for ids in tokens)
