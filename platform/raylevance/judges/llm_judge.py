"""A judge that puts each pair to a language model."""

import functools
from typing import Any, cast

import pyarrow as pa
import ray.data

from raylevance.judges.judge import Judge
from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.language_model import PROMPTS, LanguageModel, Request


def llm_judge(model: LanguageModel, prompt: JudgePrompt) -> Judge:
    """Return the judge that puts `prompt` to `model`. Its answer is one of three tokens, so it is always a grade."""

    def judge(pairs: ray.data.Dataset) -> ray.data.Dataset:
        render = functools.partial(_render_prompts, prompt=prompt)
        prompts = pairs.map_batches(cast(Any, render), batch_format="pyarrow", batch_size=None)
        return model.answer(prompts, Request(choices=prompt.answers))

    return judge


def _render_prompts(pairs: pa.Table, prompt: JudgePrompt) -> pa.Table:
    texts = zip(pairs["query"].to_pylist(), pairs["product_text"].to_pylist(), strict=True)
    prompts = [prompt.render(query, product) for query, product in texts]
    return pa.table({"key": pairs["key"], "prompt": prompts}, schema=PROMPTS)
