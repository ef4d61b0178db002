"""A judge: pairs of a query and a product's text to log-probabilities of the grades 0, 1, 2."""

import functools
from collections.abc import Callable
from typing import Any, cast

import pyarrow as pa
import ray.data

from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.language_model import PROMPTS, LanguageModel, Request

PAIRS = pa.schema([("key", pa.string()), ("query", pa.string()), ("product_text", pa.string())])

Judge = Callable[[ray.data.Dataset], ray.data.Dataset]
"""Rows of `PAIRS` to rows of `ANSWERS`, `log_probabilities` [3] in the order of the grades, or an `error`."""


def llm_judge(model: LanguageModel, prompt: JudgePrompt) -> Judge:
    """The judge that asks `model` with `prompt`; the answer is one of three tokens, so it is always a grade."""

    def judge(pairs: ray.data.Dataset) -> ray.data.Dataset:
        render = functools.partial(_render, prompt=prompt)
        prompts = pairs.map_batches(cast(Any, render), batch_format="pyarrow", batch_size=None)
        return model.answer(prompts, Request(choices=prompt.answers))

    return judge


def _render(pairs: pa.Table, prompt: JudgePrompt) -> pa.Table:
    texts = zip(pairs["query"].to_pylist(), pairs["product_text"].to_pylist(), strict=True)
    return pa.table({"key": pairs["key"], "prompt": [prompt.render(*text) for text in texts]}, schema=PROMPTS)
