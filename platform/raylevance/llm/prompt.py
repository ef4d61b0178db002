"""The prompt of a judge: a guideline and its examples first, the pair last, then one token that is the grade.

What is the same for every pair comes first, so that an engine computes it once (prefix caching).
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import PositiveInt

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.llm.guideline import Guideline, pair_text

ANSWERS = ("0", "1", "2")
MARK = "\N{REPLACEMENT CHARACTER}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SPACE = re.compile(r"\s+")


class JudgePrompt(Settings):
    """`head` + pair + `tail`; the model goes on with one of `answers`, in the order of the grades 0, 1, 2.

    Query and product are data: each is put on one line of its own, without control characters, cut at `max_characters`.
    """

    head: str
    tail: str = ""
    answers: tuple[str, str, str] = ANSWERS
    max_characters: PositiveInt = 600

    @classmethod
    def zero_shot(cls, guideline: Guideline) -> "JudgePrompt":
        """For a model that was not trained on the task: definitions, examples, the pair."""
        return cls(head=guideline.text())

    @classmethod
    def fine_tuned(cls) -> "JudgePrompt":
        """For a model that learned the task from its training pairs: the pair alone."""
        return cls(head="")

    def render(self, query: str, product: str) -> str:
        return f"{self.head}{pair_text(self._line(query), self._line(product))}{self.tail}"

    def in_chat(self, tokenizer: Any) -> "JudgePrompt":
        """This prompt within the chat template of an instruction-tuned model; as it is where there is none."""
        if not getattr(tokenizer, "chat_template", None):
            return self
        messages = [{"role": "user", "content": f"{self.head}{MARK}"}]
        chat: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        head, _, tail = chat.partition(MARK)
        return self.model_copy(update={"head": head, "tail": tail})

    def answer_tokens(self, tokenizer: Any) -> tuple[int, ...]:
        """The token id of each answer. Raises `RaylevanceError` where one takes several tokens or two are equal."""
        return single_tokens(tokenizer, self.answers)

    def _line(self, text: str) -> str:
        return _SPACE.sub(" ", _CONTROL.sub(" ", text)).strip()[: self.max_characters]


def single_tokens(tokenizer: Any, answers: Sequence[str]) -> tuple[int, ...]:
    """The token id of each answer. Raises `RaylevanceError` where one takes several tokens or two are equal."""
    tokens = [tokenizer.encode(answer, add_special_tokens=False) for answer in answers]
    if any(len(ids) != 1 for ids in tokens) or len({ids[0] for ids in tokens}) < len(tokens):
        raise RaylevanceError(f"answers {tuple(answers)}: each must be one token of its own for this tokenizer")
    return tuple(ids[0] for ids in tokens)
