"""Put questions to a model, each once: what the ledger has an answer to is not asked again.

Each block of answers is kept as it arrives, so that a process killed anywhere has lost only what was in flight.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from raylevance.data.parts import own_error
from raylevance.errors import RaylevanceError
from raylevance.llm.language_model import ANSWERS, PROMPTS, LanguageModel, Request
from raylevance.llm.ledger import Ledger

COMMIT_ROWS = 64
"""Questions of one Ray Data block: its answers come, and are kept, together."""

Answer = Callable[[ray.data.Dataset], ray.data.Dataset]
"""Rows with a `key` to rows of `ANSWERS`."""

Progress = Callable[[int, int], object]
"""Called with the questions answered, and their tokens, since the last call."""


def ask(
    questions: Path, answer: Answer, ledger: Ledger, progress: Progress = lambda rows, tokens: None
) -> dict[str, str]:
    """Put the Parquet folder `questions` (a column `key`) to `answer` and keep what comes; returns errors by key."""
    errors: dict[str, str] = {}
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = False  # a slow block must not keep finished ones from the ledger
    with ray.data.DataContext.current(context):
        blocks = ray.data.read_parquet(str(questions)).repartition(target_num_rows_per_block=COMMIT_ROWS)
        for batch in _answers(answer(blocks)):
            rows: list[dict[str, Any]] = batch.to_pylist()
            errors |= {row["key"]: row["error"] for row in rows if row["error"]}
            ledger.put((row["key"], _kept(row)) for row in rows if not row["error"])
            progress(len(rows), sum(row["tokens"] or 0 for row in rows))
    return errors


def ask_prompts(
    prompts: pa.Table,
    model: LanguageModel,
    request: Request,
    ledger: Ledger,
    work: Path,
    progress: Progress = lambda rows, tokens: None,
) -> pa.Table:
    """Rows of `ANSWERS` (without tokens) for rows of `PROMPTS` in their order, from the ledger or from `model`.

    `work`: a folder for what is not answered yet, emptied at the end. Raises `RaylevanceError` where most failed.
    """
    keys: list[str] = prompts["key"].to_pylist()
    known = ledger.get(keys)
    missing = prompts.filter(pa.array([key not in known for key in keys]))
    errors: dict[str, str] = {}
    if missing.num_rows:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        pq.write_table(missing.cast(PROMPTS), work / "prompts.parquet")
        errors = ask(work, lambda rows: model.answer(rows, request), ledger, progress)
        shutil.rmtree(work, ignore_errors=True)
    if len(errors) > prompts.num_rows / 2:
        raise RaylevanceError(
            f"the language model: no answer to {len(errors)} of {prompts.num_rows} prompts "
            f"({next(iter(errors.values()))}); mend it and run the same command again: what it answered is kept"
        )
    answers = ledger.get(keys)
    rows = [
        {"key": key, "error": "", **json.loads(answers[key])}
        if key in answers
        else {"key": key, "error": errors.get(key, "no answer")}
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=ANSWERS)


def _kept(row: dict[str, Any]) -> str:
    return json.dumps({name: row[name] for name in ("text", "log_probabilities") if row[name] is not None})


def _answers(answers: ray.data.Dataset) -> Iterator[pa.Table]:
    """Blocks as they are answered. Raises the `RaylevanceError` that was raised in a worker, as itself."""
    try:
        yield from cast(Any, answers.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0))
    except Exception as error:
        own = own_error(error)
        if own is None:
            raise
        raise own from None
