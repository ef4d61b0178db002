"""Labels for a file of pairs: read the pairs, judge those that were never judged, write every row with its label.

Each answer is stored in a ledger as it arrives, under the content of its pair and the version of the judge. The same
call therefore continues where a killed process stopped. A row that can't be judged gets the status `quarantined` and a
reason, and does not stop the others.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from raylevance.artifacts import Store
from raylevance.data.input_files import refuse_empty
from raylevance.data.output_file import output_file
from raylevance.data.schema import MODEL_PREFIX
from raylevance.errors import RaylevanceError, lacks_columns
from raylevance.judges.grade_decisions import decide_grades
from raylevance.judges.judge import PAIRS, Judge
from raylevance.judges.prompt_injection import find_prompt_injection
from raylevance.llm.backends import open_ledger
from raylevance.llm.cached_answers import Progress, answer_into_ledger
from raylevance.llm.ledger import Ledger

TEXT_COLUMNS = ("query", "product_text")
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_null,
)
JUDGED, ABSTAINED, QUARANTINED = "judged", "abstained", "quarantined"
LABELS = pa.schema(
    [
        ("grade", pa.int8()),
        ("confidence", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("source", pa.string()),
    ]
)
"""The label of a pair.

- `grade`: null unless the status is `judged`.
- `confidence`: the probability of the most likely grade; null if the status is `quarantined`.
- `status`: `judged`, `abstained` or `quarantined`.
- `reason`: the reason why the pair is quarantined, otherwise null.
- `source`: the judge; null if the status is `quarantined`.
"""

READ_ROWS = 8192
"""Rows of a batch that is read."""

QUESTION_ROWS = 8192
"""Rows of a file of questions."""
KEY_DIGITS = 32
"""Hexadecimal digits of each pair's key that are kept in memory: 16 bytes, enough that keys do not collide."""

LONGEST_QUERY, LONGEST_PRODUCT = 1000, 20_000
"""The largest number of characters of a query and of a product text. A longer text is a broken row (our choice)."""


class Labelling(NamedTuple):
    """A judge, and how its answers become labels."""

    judge: Judge
    """The judge."""
    version: str
    """A name of the judge and of everything that decides its answers. It is part of every ledger key."""
    temperature: float = 1.0
    """The log-probabilities are divided by this number."""
    threshold: float = 0.0
    """The judge abstains from a grade whose confidence is below this."""
    reads_prompts: bool = True
    """Whether the judge could follow an instruction in a text. A pair with such an instruction is then quarantined."""


class LabellingSummary(NamedTuple):
    """The number of rows by status, and of distinct pairs by where their answer came from."""

    rows: int
    """All rows that were written."""
    judged: int
    """Rows with a grade."""
    abstained: int
    """Rows whose grade was not confident enough."""
    quarantined: int
    """Rows that could not be judged."""
    asked: int
    """Distinct pairs that were put to the judge in this run."""
    kept: int
    """Distinct pairs whose answer was in the ledger."""


def label_pairs(
    pairs: Path,
    output: Path,
    labelling: Labelling,
    ledger: Ledger,
    work: Path,
    progress: Progress = lambda pairs, tokens: None,
    on_start: Callable[[int], object] = lambda unanswered: None,
) -> LabellingSummary:
    """Write the pairs of a Parquet file to `output`, in their order, with the columns of `LABELS`.

    `pairs` has the columns query and product_text, and any others. The folder `work` holds the pairs that are not yet
    answered, and is emptied at the end. `on_start` is called once, with the number of pairs to put to the judge.
    `output` appears complete or not at all.

    Raises `RaylevanceError` if `pairs` can't be read, lacks a column, or has a column of `LABELS` already.
    """
    check_pairs(pairs)
    questions = work / "questions"
    shutil.rmtree(questions, ignore_errors=True)
    unanswered, answered = _write_questions(pairs, questions, labelling, ledger)
    on_start(unanswered)
    errors = answer_into_ledger(questions, labelling.judge, ledger, progress) if unanswered else {}
    counts = _write_labels(pairs, output, labelling, ledger, errors)
    shutil.rmtree(questions, ignore_errors=True)
    return LabellingSummary(
        rows=sum(counts.values()),
        judged=counts[JUDGED],
        abstained=counts[ABSTAINED],
        quarantined=counts[QUARANTINED],
        asked=unanswered,
        kept=answered,
    )


def label_table(pairs: pa.Table, labelling: Labelling, store: Store) -> pa.Table:
    """Return `pairs` (columns query and product_text) in their order with the columns of `LABELS`.

    The answers are stored in the ledger of `store`.
    """
    # In the store, because the nodes of a cluster read the pairs.
    work = store.work_folder("labelling")
    with tempfile.TemporaryDirectory(dir=work) as folder, open_ledger(store) as ledger:
        input_file, output_file = Path(folder, "pairs.parquet"), Path(folder, "labels.parquet")
        pq.write_table(pairs, input_file)
        label_pairs(input_file, output_file, labelling, ledger, Path(folder))
        return pq.read_table(output_file)


def pair_key(version: str, query: str, product_text: str) -> str:
    """Return the ledger key of a pair under a version of a judge."""
    return hashlib.sha256(json.dumps([version, query, product_text]).encode()).hexdigest()


class _Row(NamedTuple):
    query: str = ""
    product_text: str = ""
    fault: str = ""


def _read_rows(batch: pa.RecordBatch, reads_prompts: bool) -> Iterator[_Row]:
    """Yield each pair of a batch with the fault that quarantines it.

    Texts are decoded one by one, so that one with broken bytes affects only its own row.
    """
    columns = [batch.column(name).cast(pa.large_binary()).to_pylist() for name in TEXT_COLUMNS]
    for values in zip(*columns, strict=True):
        try:
            query, product_text = ["" if value is None else value.decode() for value in values]
        except UnicodeDecodeError as error:
            yield _Row(fault=f"not UTF-8: {error.reason} at byte {error.start}")
            continue
        yield _Row(query, product_text, _fault(query, product_text, reads_prompts))


def _fault(query: str, product_text: str, reads_prompts: bool) -> str:
    for name, text, longest in (("query", query, LONGEST_QUERY), ("product_text", product_text, LONGEST_PRODUCT)):
        if not text.strip():
            return f"{name} is empty"
        if len(text) > longest:
            return f"{name} has {len(text)} characters, more than {longest}"
        injection = find_prompt_injection(text) if reads_prompts else ""
        if injection:
            return f"{name} has an instruction to the judge: {injection!r}"
    return ""


def _read_batches(pairs: Path) -> Iterator[pa.RecordBatch]:
    dataset = pyarrow.dataset.dataset(str(pairs), format="parquet")
    yield from dataset.to_batches(batch_size=READ_ROWS, use_threads=False)


def check_pairs(pairs: Path) -> None:
    """Raise `RaylevanceError` if `label_pairs` can't read a file, or if it lacks a column or has one of `LABELS`."""
    try:
        if not pairs.is_dir():
            refuse_empty(pairs)
        schema = pyarrow.dataset.dataset(str(pairs), format="parquet").schema
    except (pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{pairs}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    names = schema.names
    if missing := [column for column in TEXT_COLUMNS if column not in names]:
        raise RaylevanceError(f"{pairs}: {lacks_columns(missing, names, TEXT_COLUMNS)}")
    for column in TEXT_COLUMNS:
        kind = schema.field(column).type
        if not any(is_type(kind) for is_type in TEXT_TYPES):
            raise RaylevanceError(f"{pairs}: column {column!r} holds {kind}, expected text")
    taken = [name for name in LABELS.names if name in names]
    if taken:
        raise RaylevanceError(f"{pairs}: has a column {taken[0]!r} already, which labelling writes; rename or drop it")


def _write_questions(pairs: Path, folder: Path, labelling: Labelling, ledger: Ledger) -> tuple[int, int]:
    """Write each valid pair that has no answer once, as Parquet files of `PAIRS`, each in the order of its queries.

    A language model then reads the guideline and the query once for all pairs of a query in a file (prefix caching).
    Returns the number of these pairs, and the number of distinct pairs that have an answer.
    """
    folder.mkdir(parents=True)
    seen: set[bytes] = set()
    waiting: list[dict[str, str]] = []
    files = answered_count = 0
    for batch in _read_batches(pairs):
        valid = [row for row in _read_rows(batch, labelling.reads_prompts) if not row.fault]
        row_by_key = {pair_key(labelling.version, row.query, row.product_text): row for row in valid}
        digests = {key: bytes.fromhex(key[:KEY_DIGITS]) for key in row_by_key}
        new = {key for key, digest in digests.items() if digest not in seen}
        seen.update(digests.values())
        answered = ledger.get(list(new))
        answered_count += len(answered)
        waiting += [
            {"key": key, "query": row.query, "product_text": row.product_text}
            for key, row in row_by_key.items()
            if key in new and key not in answered
        ]
        while len(waiting) >= QUESTION_ROWS:
            _write_question_file(folder, files, waiting[:QUESTION_ROWS])
            waiting, files = waiting[QUESTION_ROWS:], files + 1
    if waiting:
        _write_question_file(folder, files, waiting)
    return len(seen) - answered_count, answered_count


def _write_question_file(folder: Path, number: int, rows: list[dict[str, str]]) -> None:
    by_query = sorted(rows, key=lambda row: row["query"])
    pq.write_table(pa.Table.from_pylist(by_query, schema=PAIRS), folder / f"part-{number:06d}.parquet")


def _write_labels(
    pairs: Path, output: Path, labelling: Labelling, ledger: Ledger, errors: dict[str, str]
) -> dict[str, int]:
    """Write `output` under a temporary name and rename it. Returns the number of rows by status."""
    counts = dict.fromkeys((JUDGED, ABSTAINED, QUARANTINED), 0)
    schema = pyarrow.dataset.dataset(str(pairs), format="parquet").schema
    for field in LABELS:
        schema = schema.append(field)
    with output_file(output) as draft, pq.ParquetWriter(draft, schema) as writer:
        for batch in _read_batches(pairs):
            labels = _label_batch(batch, labelling, ledger, errors)
            for status in labels["status"].to_pylist():
                counts[status] += 1
            columns = [*batch.columns, *(column.combine_chunks() for column in labels.columns)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return counts


def _label_batch(batch: pa.RecordBatch, labelling: Labelling, ledger: Ledger, errors: dict[str, str]) -> pa.Table:
    rows = list(_read_rows(batch, labelling.reads_prompts))
    keys = [pair_key(labelling.version, row.query, row.product_text) for row in rows]
    answers = ledger.get(list({key for key, row in zip(keys, rows, strict=True) if not row.fault}))
    values = [json.loads(answers[key])["log_probabilities"] if key in answers else [0.0, 0.0, 0.0] for key in keys]
    decisions = decide_grades(np.array(values), labelling.temperature, labelling.threshold)
    labels: list[dict[str, Any]] = []
    for index, (key, row) in enumerate(zip(keys, rows, strict=True)):
        if row.fault or key not in answers:
            reason = row.fault or errors.get(key, "the judge gave no answer")
            labels.append({"status": QUARANTINED, "reason": reason})
            continue
        accepted = bool(decisions.accepted[index])
        labels.append(
            {
                "grade": int(decisions.grades[index]) if accepted else None,
                "confidence": float(decisions.confidence[index]),
                "status": JUDGED if accepted else ABSTAINED,
                "source": MODEL_PREFIX + labelling.version,
            }
        )
    return pa.Table.from_pylist(labels, schema=LABELS)


def stored_log_probabilities(pairs: pa.Table, labelling: Labelling, store: Store) -> npt.NDArray[np.float64]:
    """Return the log-probabilities float64 [n, 3] of the grades of `pairs`, which `label_table` has labelled before.

    They are NaN where the ledger of `store` has no answer.
    """
    rows = [row for batch in pairs.combine_chunks().to_batches() for row in _read_rows(batch, labelling.reads_prompts)]
    keys = [pair_key(labelling.version, row.query, row.product_text) for row in rows]
    with open_ledger(store) as ledger:
        answers = ledger.get(list({key for key, row in zip(keys, rows, strict=True) if not row.fault}))
    none = [np.nan] * 3
    values = [json.loads(answers[key])["log_probabilities"] if key in answers else none for key in keys]
    return np.array(values, np.float64).reshape(len(keys), 3)
