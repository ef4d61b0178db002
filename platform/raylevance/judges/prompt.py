"""The prompt of a judge: the guideline with its examples, then the pair; the model continues with the grade.

The part that all pairs share comes first, so that an engine computes it only once (prefix caching).
"""

from typing import Any

from pydantic import PositiveInt

from raylevance.config import Settings
from raylevance.judges.guideline import Guideline, pair_text
from raylevance.llm.prompt_text import one_line, single_tokens

GRADE_ANSWERS = ("0", "1", "2")
PAIR_MARK = "\N{REPLACEMENT CHARACTER}"
"""Stands for the pair while a chat template is applied, to find its place in the result."""


class JudgePrompt(Settings):
    """A prompt of three parts: `head`, the pair, `tail`. Query and product are put on one line each, as data."""

    head: str
    """The text before the pair."""
    tail: str = ""
    """The text after the pair."""
    answers: tuple[str, str, str] = GRADE_ANSWERS
    """The answers that stand for the grades 0, 1, 2."""
    max_characters: PositiveInt = 600
    """The query and the product text are cut at so many characters each."""

    @classmethod
    def zero_shot(cls, guideline: Guideline) -> "JudgePrompt":
        """Return the prompt for a model that was not trained to grade: definitions, examples, the pair."""
        return cls(head=guideline.text())

    @classmethod
    def fine_tuned(cls) -> "JudgePrompt":
        """Return the prompt for a model that was trained to grade: the pair alone."""
        return cls(head="")

    def render(self, query: str, product: str) -> str:
        """Return the prompt about one pair."""
        pair = pair_text(one_line(query, self.max_characters), one_line(product, self.max_characters))
        return f"{self.head}{pair}{self.tail}"

    def in_chat(self, tokenizer: Any) -> "JudgePrompt":
        """Return this prompt within the chat template of an instruction-tuned model, or as it is without a template."""
        if not getattr(tokenizer, "chat_template", None):
            return self
        messages = [{"role": "user", "content": f"{self.head}{PAIR_MARK}"}]
        chat: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        head, _, tail = chat.rpartition(PAIR_MARK)
        if tokenizer.bos_token and tokenizer.encode("")[:1] == [tokenizer.bos_token_id]:
            head = head.removeprefix(tokenizer.bos_token)  # the engine's tokenizer adds it again
        return self.model_copy(update={"head": head, "tail": tail})

    def answer_tokens(self, tokenizer: Any) -> tuple[int, ...]:
        """Return the token id of each answer.

        Raises `RaylevanceError` if an answer takes several tokens, or if two answers are equal.
        """
        return single_tokens(tokenizer, self.answers)
