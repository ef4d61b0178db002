"""Answers from a model through the ledger: a question that already has an answer there is not put to the model again.

Each block of answers is stored as it arrives, so a process that is killed loses only the answers in flight.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from raylevance.data.failed_datasets import free_actors, unwrapped_error
from raylevance.errors import RaylevanceError
from raylevance.llm.language_model import ANSWERS, PROMPTS, LanguageModel, Request
from raylevance.llm.ledger import Ledger

COMMIT_ROWS = 64
"""Questions per Ray Data block. The answers to a block arrive, and are stored, together."""

AnswerFunction = Callable[[ray.data.Dataset], ray.data.Dataset]
"""Maps rows with a column `key` to rows of `ANSWERS`."""

Progress = Callable[[int, int], object]
"""Called with the number of questions answered since the last call, and the number of their tokens."""


def answer_into_ledger(
    questions: Path, answer: AnswerFunction, ledger: Ledger, progress: Progress = lambda rows, tokens: None
) -> dict[str, str]:
    """Answer the questions in a Parquet folder (with a column `key`), and store the answers in `ledger`.

    Returns the errors of the questions that failed, by key.
    """
    errors: dict[str, str] = {}
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = False  # a slow block must not keep finished ones from the ledger
    with ray.data.DataContext.current(context):
        blocks = ray.data.read_parquet(str(questions)).repartition(target_num_rows_per_block=COMMIT_ROWS)
        for batch in _iterate_blocks(answer(blocks)):
            rows: list[dict[str, Any]] = batch.to_pylist()
            errors |= {row["key"]: row["error"] for row in rows if row["error"]}
            ledger.put((row["key"], _stored_answer(row)) for row in rows if not row["error"])
            progress(len(rows), sum(row["tokens"] or 0 for row in rows))
    return errors


def answer_prompts(
    prompts: pa.Table,
    model: LanguageModel,
    request: Request,
    ledger: Ledger,
    work: Path,
    progress: Progress = lambda rows, tokens: None,
) -> pa.Table:
    """Return a row of `ANSWERS`, without the column `tokens`, for each row of `PROMPTS`, in the same order.

    The answers come from the ledger where it has them, otherwise from `model`. The folder `work` holds the prompts
    that are still to be answered, and is removed at the end.
    Raises `RaylevanceError` if more than half of the prompts have no answer.
    """
    keys: list[str] = prompts["key"].to_pylist()
    answered = ledger.get(keys)
    unanswered = prompts.filter(pa.array([key not in answered for key in keys]))
    errors: dict[str, str] = {}
    if unanswered.num_rows:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        pq.write_table(unanswered.cast(PROMPTS), work / "prompts.parquet")
        errors = answer_into_ledger(work, lambda rows: model.answer(rows, request), ledger, progress)
        shutil.rmtree(work, ignore_errors=True)
    if len(errors) > prompts.num_rows / 2:
        raise RaylevanceError(
            f"the language model failed on {len(errors)} of {prompts.num_rows} prompts "
            f"({next(iter(errors.values()))}): fix this and run the same command again, the other answers are stored"
        )
    answers = ledger.get(keys)
    rows = [
        {"key": key, "error": "", **json.loads(answers[key])}
        if key in answers
        else {"key": key, "error": errors.get(key, "no answer")}
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=ANSWERS)


def _stored_answer(row: dict[str, Any]) -> str:
    return json.dumps({name: row[name] for name in ("text", "log_probabilities") if row[name] is not None})


def _iterate_blocks(answers: ray.data.Dataset) -> Iterator[pa.Table]:
    """Yield blocks as they are answered. A `RaylevanceError` of a worker is raised without Ray's wrapping."""
    try:
        yield from cast(Any, answers.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0))
        return
    except Exception as error:
        raylevance_error = unwrapped_error(error)
        if raylevance_error is None:
            raise
    # Outside of the handler: as its context, Ray's error would keep the actors.
    free_actors()
    raise raylevance_error
