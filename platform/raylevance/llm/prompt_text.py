"""Text that is put into a prompt as data, and answers that are a single token."""

import re
from collections.abc import Sequence
from typing import Any

from raylevance.errors import RaylevanceError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SPACE = re.compile(r"\s+")
_TOKEN = re.compile(r"</?[|\uff5c]?[A-Za-z_][\w\u2581-]*[|\uff5c]?>|\[/?INST\]")
"""What chat templates mark turns with: tokenizers read it as control tokens wherever it stands."""


def one_line(text: str, max_characters: int) -> str:
    """`text` as data within a prompt: on one line, without control characters and chat templates' tokens, cut."""
    return _SPACE.sub(" ", _TOKEN.sub(" ", _CONTROL.sub(" ", text))).strip()[:max_characters].rstrip()


def single_tokens(tokenizer: Any, answers: Sequence[str]) -> tuple[int, ...]:
    """The token id of each answer. Raises `RaylevanceError` where one is several tokens, or unknown, or there twice."""
    tokens = [tokenizer.encode(answer, add_special_tokens=False) for answer in answers]
    unknown = getattr(tokenizer, "unk_token_id", None)
    if any(len(ids) != 1 or ids[0] == unknown for ids in tokens) or len({ids[0] for ids in tokens}) < len(tokens):
        raise RaylevanceError(f"answers {tuple(answers)}: each must be one token of its own for this tokenizer")
    return tuple(ids[0] for ids in tokens)
