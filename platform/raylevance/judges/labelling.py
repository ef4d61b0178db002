"""Labels for pairs at scale: read, judge what was never judged, write. Killed anywhere, the same call carries on.

Each answer is kept in a ledger under the content of its pair and the judge's version, as it arrives. A bad row gets the
status `quarantined` and a reason; it never stops the others.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from raylevance.data.schema import LANGUAGE_MODEL
from raylevance.errors import RaylevanceError, nearest
from raylevance.judges.llm_judge import PAIRS, Judge
from raylevance.judges.prompt_injection import talks_to_the_judge
from raylevance.judges.verdicts import verdicts
from raylevance.llm.asking import Progress, ask
from raylevance.llm.ledger import Ledger

COLUMNS = ("query", "product_text")
TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null)
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
"""What a pair gets. `grade`: null unless `judged`; `confidence`: null if quarantined; `reason`: why it is."""

READ_ROWS, QUESTION_ROWS = 8192, 8192
LONGEST_QUERY, LONGEST_PRODUCT = 1000, 20_000
"""Characters; more is no query and no product text, but a broken row (our choice)."""


class Labelling(NamedTuple):
    """How pairs are graded. `version` names the judge with all that decides its answers: it is in every ledger key.

    `reads_prompts`: the judge could follow words that talk to it; such a pair is then quarantined.
    """

    judge: Judge
    version: str
    temperature: float = 1.0
    threshold: float = 0.0
    reads_prompts: bool = True


class Summary(NamedTuple):
    """Rows written, by status; `asked`: pairs put to the judge in this run, `kept`: answers found in the ledger."""

    rows: int
    judged: int
    abstained: int
    quarantined: int
    asked: int
    kept: int


def label_pairs(
    pairs: Path,
    output: Path,
    labelling: Labelling,
    ledger: Ledger,
    work: Path,
    progress: Progress = lambda pairs, tokens: None,
    on_start: Callable[[int], object] = lambda missing: None,
) -> Summary:
    """Write `pairs` (Parquet: query, product_text, any others) with the columns `LABELS` to `output`, row by row.

    `work`: a folder for what is not done yet, emptied at the end. `on_start` is called with the pairs to be asked.
    Raises `RaylevanceError` for a file that can't be read or lacks a column; `output` appears whole, or not at all.
    """
    _check_columns(pairs)
    questions = work / "questions"
    shutil.rmtree(questions, ignore_errors=True)
    missing, kept = _write_questions(pairs, questions, labelling, ledger)
    on_start(missing)
    errors = ask(questions, labelling.judge, ledger, progress) if missing else {}
    counts = _write_labels(pairs, output, labelling, ledger, errors)
    shutil.rmtree(questions, ignore_errors=True)
    judged, abstained, quarantined = (counts[status] for status in (JUDGED, ABSTAINED, QUARANTINED))
    return Summary(judged + abstained + quarantined, judged, abstained, quarantined, missing, kept)


def pair_key(version: str, query: str, product_text: str) -> str:
    """Names a pair's content under a judge's version."""
    return hashlib.sha256(json.dumps([version, query, product_text]).encode()).hexdigest()


class _Row(NamedTuple):
    query: str = ""
    product_text: str = ""
    fault: str = ""


def _rows(batch: pa.RecordBatch, reads_prompts: bool) -> Iterator[_Row]:
    """The pairs of a batch, each with what is wrong with it. Bytes first: one broken string must lose no other row."""
    columns = [batch.column(name).cast(pa.large_binary()).to_pylist() for name in COLUMNS]
    for values in zip(*columns, strict=True):
        try:
            texts = ["" if value is None else value.decode() for value in values]
        except UnicodeDecodeError as error:
            yield _Row(fault=f"not UTF-8: {error.reason} at byte {error.start}")
            continue
        query, product_text = texts
        yield _Row(query, product_text, _fault(query, product_text, reads_prompts))


def _fault(query: str, product_text: str, reads_prompts: bool) -> str:
    for name, text, longest in (("query", query, LONGEST_QUERY), ("product_text", product_text, LONGEST_PRODUCT)):
        if not text.strip():
            return f"{name} is empty"
        if len(text) > longest:
            return f"{name} has {len(text)} characters, more than {longest}"
        words = talks_to_the_judge(text) if reads_prompts else ""
        if words:
            return f"{name} talks to the judge: {words!r}"
    return ""


def _batches(pairs: Path) -> Iterator[pa.RecordBatch]:
    dataset = pyarrow.dataset.dataset(str(pairs), format="parquet")
    yield from dataset.to_batches(batch_size=READ_ROWS, use_threads=False)


def _check_columns(pairs: Path) -> None:
    try:
        schema = pyarrow.dataset.dataset(str(pairs), format="parquet").schema
    except FileNotFoundError:
        raise RaylevanceError(f"{pairs}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{pairs}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    names = schema.names
    for column in COLUMNS:
        if column not in names:
            raise RaylevanceError(f"{pairs}: no column {column!r}; {nearest(column, names)}")
        kind = schema.field(column).type
        if not any(holds(kind) for holds in TEXTS):
            raise RaylevanceError(f"{pairs}: column {column!r} holds {kind}, not text")
    taken = [name for name in LABELS.names if name in names]
    if taken:
        raise RaylevanceError(f"{pairs}: has a column {taken[0]!r} already, which labelling writes; rename or drop it")


def _write_questions(pairs: Path, folder: Path, labelling: Labelling, ledger: Ledger) -> tuple[int, int]:
    """Parquet parts of `PAIRS`: each good pair once that has no answer yet. Returns how many, and how many have one."""
    folder.mkdir(parents=True)
    seen: set[str] = set()
    waiting: list[dict[str, str]] = []
    parts = kept = 0
    for batch in _batches(pairs):
        good = [row for row in _rows(batch, labelling.reads_prompts) if not row.fault]
        asked = {pair_key(labelling.version, row.query, row.product_text): row for row in good}
        new = asked.keys() - seen
        seen |= new
        answered = ledger.get(list(new))
        kept += len(answered)
        waiting += [
            {"key": key, "query": row.query, "product_text": row.product_text}
            for key, row in asked.items()
            if key in new and key not in answered
        ]
        while len(waiting) >= QUESTION_ROWS:
            _write_part(folder, parts, waiting[:QUESTION_ROWS])
            waiting, parts = waiting[QUESTION_ROWS:], parts + 1
    if waiting:
        _write_part(folder, parts, waiting)
    return len(seen) - kept, kept


def _write_part(folder: Path, number: int, rows: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=PAIRS), folder / f"part-{number:06d}.parquet")


def _write_labels(
    pairs: Path, output: Path, labelling: Labelling, ledger: Ledger, errors: dict[str, str]
) -> dict[str, int]:
    """`output`, written beside and renamed. Returns rows by status."""
    counts = dict.fromkeys((JUDGED, ABSTAINED, QUARANTINED), 0)
    schema = pyarrow.dataset.dataset(str(pairs), format="parquet").schema
    for field in LABELS:
        schema = schema.append(field)
    draft = output.with_name(f".{output.name}.draft")
    try:
        with pq.ParquetWriter(draft, schema) as writer:
            for batch in _batches(pairs):
                labels = _labels(batch, labelling, ledger, errors)
                for status in labels["status"].to_pylist():
                    counts[status] += 1
                columns = [*batch.columns, *(column.combine_chunks() for column in labels.columns)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        draft.replace(output)
    except FileNotFoundError:
        raise RaylevanceError(f"{output}: no such folder: {output.parent}") from None
    finally:
        draft.unlink(missing_ok=True)
    return counts


def _labels(batch: pa.RecordBatch, labelling: Labelling, ledger: Ledger, errors: dict[str, str]) -> pa.Table:
    rows = list(_rows(batch, labelling.reads_prompts))
    keys = [pair_key(labelling.version, row.query, row.product_text) for row in rows]
    answers = ledger.get(list({key for key, row in zip(keys, rows, strict=True) if not row.fault}))
    values = [json.loads(answers[key])["log_probabilities"] if key in answers else [0.0, 0.0, 0.0] for key in keys]
    found = verdicts(np.array(values), labelling.temperature, labelling.threshold)
    labels: list[dict[str, Any]] = []
    for place, (key, row) in enumerate(zip(keys, rows, strict=True)):
        if row.fault or key not in answers:
            reason = row.fault or errors.get(key, "the judge gave no answer")
            labels.append({"status": QUARANTINED, "reason": reason})
            continue
        sure = bool(found.sure[place])
        labels.append(
            {
                "grade": int(found.grades[place]) if sure else None,
                "confidence": float(found.confidence[place]),
                "status": JUDGED if sure else ABSTAINED,
                "source": LANGUAGE_MODEL + labelling.version,
            }
        )
    return pa.Table.from_pylist(labels, schema=LABELS)
