"""`raylevance classify`: write the labels of a file of queries."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.artifacts import Store
from raylevance.data.conversions import TEXT
from raylevance.data.normal_form import normal_form_column
from raylevance.data.output_file import output_file
from raylevance.data.streamed_files import footer, refuse_repeated, require_columns
from raylevance.errors import RaylevanceError, one_line
from raylevance.inference.query_classifier import LoadedClassifier
from raylevance.inference.query_classifier import load as load_classifier
from raylevance.progress import progress_bar, status
from workloads.commands.evaluate_classification import chosen_task

ROWS_AT_ONCE = 2048
LABELS = pa.schema(
    [
        ("labels", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float32())),
        ("paths", pa.list_(pa.list_(pa.string()))),
        ("reason", pa.string()),
    ]
)
"""What is added to a query.

- `labels`: the ids of its labels, the most probable first; empty where no label reaches its threshold; null where the
  query can't be classified.
- `probabilities` and `paths`: the probability of each label, and its names from the root; null as `labels`.
- `reason`: why a query can't be classified, otherwise null.
"""


def classify_file(
    classifier: str, store: str, file: Path, output: Path, task: str | None = None, k: int = 3
) -> dict[str, Any]:
    """Write each row of `file` to `output` with the columns of `LABELS`, up to `k` labels a query, and count the rows.

    Both are Parquet, and not the same file. `file` has the column query and any others; those with a name of `LABELS`
    are replaced, and named in a status line. Memory does not grow with the file. `output` appears complete or not at
    all.

    Raises `UsageError` for an unknown task, `RaylevanceError` if `file` can't be read or has no column query.
    """
    loaded = load_classifier(Store(store), classifier)
    task = chosen_task(loaded, task)
    schema = _schema(file)
    started, counts = time.monotonic(), dict.fromkeys(("rows", "classified", "abstained", "not_classified"), 0)
    first_fault = ""
    with (
        output_file(output) as draft,
        pq.ParquetWriter(draft, schema) as writer,
        progress_bar("classifying", "queries", _rows(file)) as bar,
    ):
        for batch in _batches(file):
            labels = _classified(loaded, task, k, batch.column("query"))
            writer.write_table(_with_labels(batch, labels, schema))
            faults = np.flatnonzero(labels["reason"].is_valid().to_numpy(zero_copy_only=False))
            if len(faults) and not first_fault:
                first_fault = f"row {counts['rows'] + faults[0] + 1}: {labels['reason'][int(faults[0])]}"
            _count(counts, labels)
            bar.advance(batch.num_rows)
    if first_fault:
        status(f"{file}: {counts['not_classified']} of {counts['rows']} queries can't be classified; {first_fault}")
    described = {"output": str(output), "classifier": classifier, "task": task}
    return described | counts | {"seconds": round(time.monotonic() - started, 1)}


def _classified(classifier: LoadedClassifier, task: str, k: int, column: pa.Array) -> pa.Table:
    """Return the labels of a batch of queries, in `LABELS`. Each distinct query is classified once."""
    queries, faults = TEXT.convert(column)
    blank = pc.equal(normal_form_column(queries.fill_null("")), "")
    reasons = pc.coalesce(
        pc.binary_join_element_wise("query", faults, " "),
        pc.if_else(blank, "query has no text", pa.scalar(None, pa.string())),
    ).to_pylist()
    texts = queries.to_pylist()
    distinct = list(dict.fromkeys(text for text, reason in zip(texts, reasons, strict=True) if reason is None))
    found = dict(zip(distinct, classifier.classify(distinct, task, k) if distinct else [], strict=True))
    rows: list[dict[str, Any]] = []
    for text, reason in zip(texts, reasons, strict=True):
        if reason is not None:
            rows.append({"reason": reason})
            continue
        ids, probabilities, paths = zip(*found[text], strict=True) if found[text] else ((), (), ())
        rows.append({"labels": ids, "probabilities": probabilities, "paths": paths})
    return pa.Table.from_pylist(rows, LABELS)


def _count(counts: dict[str, int], labels: pa.Table) -> None:
    lengths = pc.list_value_length(labels["labels"]).to_numpy()
    counts["rows"] += len(lengths)
    counts["classified"] += int((lengths > 0).sum())
    counts["abstained"] += int((lengths == 0).sum())
    counts["not_classified"] += int(labels["reason"].is_valid().to_numpy().sum())


def _rows(file: Path) -> int:
    return int(footer(file).num_rows)


def _schema(file: Path) -> pa.Schema:
    """Return the schema of the output. Raises `RaylevanceError` if `file` is no Parquet file with a column query."""
    schema = footer(file).schema.to_arrow_schema()
    refuse_repeated(file, schema.names)
    require_columns(file, schema.names, ("query",))
    replaced = [name for name in LABELS.names if name in schema.names]
    if replaced:
        status(f"{file}: has {', '.join(replaced)} already; in the output they are those of the classifier")
    return pa.schema([*(field for field in schema if field.name not in LABELS.names), *LABELS], schema.metadata)


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(ROWS_AT_ONCE)
    except (pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{file}: can't be read, it may be incomplete: {one_line(error)}") from None


def _with_labels(batch: pa.RecordBatch, labels: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [labels[name] if name in LABELS.names else batch.column(name) for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)
