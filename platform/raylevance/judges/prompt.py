"""The prompt of a judge: a guideline and its examples first, the pair last, then one token that is the grade.

What is the same for every pair comes first, so that an engine computes it once (prefix caching).
"""

from typing import Any

from pydantic import PositiveInt

from raylevance.config import Settings
from raylevance.judges.guideline import Guideline, pair_text
from raylevance.llm.prompt_text import one_line, single_tokens

ANSWERS = ("0", "1", "2")
MARK = "\N{REPLACEMENT CHARACTER}"


class JudgePrompt(Settings):
    """`head` + pair + `tail`; the model goes on with one of `answers`, in the order of the grades 0, 1, 2.

    Query and product are data: each is put on one line of its own (`one_line`), cut at `max_characters`.
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
        pair = pair_text(one_line(query, self.max_characters), one_line(product, self.max_characters))
        return f"{self.head}{pair}{self.tail}"

    def in_chat(self, tokenizer: Any) -> "JudgePrompt":
        """This prompt within the chat template of an instruction-tuned model; as it is where there is none."""
        if not getattr(tokenizer, "chat_template", None):
            return self
        messages = [{"role": "user", "content": f"{self.head}{MARK}"}]
        chat: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        head, _, tail = chat.rpartition(MARK)
        if tokenizer.bos_token and tokenizer.encode("")[:1] == [tokenizer.bos_token_id]:
            head = head.removeprefix(tokenizer.bos_token)  # the engine's tokenizer puts it there again
        return self.model_copy(update={"head": head, "tail": tail})

    def answer_tokens(self, tokenizer: Any) -> tuple[int, ...]:
        """The token id of each answer. Raises `RaylevanceError` where one takes several tokens or two are equal."""
        return single_tokens(tokenizer, self.answers)
