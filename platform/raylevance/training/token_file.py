"""Rows of text, tokenised once into an Arrow file that workers map into memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset
import ray.data
from ray.exceptions import RayTaskError

from raylevance.errors import RaylevanceError

ROWS_PER_CHUNK = 16_384

Tokens = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowKind:
    """What a row holds. Its functions are of a module: they are sent to Ray's workers.

    `name`: of the rows, in errors. `columns`: read from Parquet. `schema`: of the token file. `optional`: columns that
    are read where the files have them, no others.
    `fault(*row)`: why a row is none of this kind, or None. `tokenise(rows, model)`: a table of `columns` as one of
    `schema`, by the tokenizer in the folder `model`.
    """

    name: str
    columns: tuple[str, ...]
    schema: pa.Schema
    fault: Callable[..., str | None]
    tokenise: Callable[[pa.Table, str], pa.Table]
    optional: tuple[str, ...] = ()


def write_tokens(rows: Path, model: Path, output: Path, kind: RowKind) -> None:
    """Write the Parquet file or folder `rows` as token ids to `output`, in its order; nothing where it exists.

    Raises `RaylevanceError` for a missing file or column, for no rows, and for the first bad one, with its place.
    """
    if output.exists():
        return
    columns = _columns(rows, kind)
    count = pa.dataset.dataset(str(rows), format="parquet").count_rows()
    if not count:
        raise RaylevanceError(f"{rows}: has no {kind.name}")
    draft = output.with_name(f".{output.name}.draft")
    tokenise = _tokenise_here if count <= ROWS_PER_CHUNK else _tokenise_on_cluster
    try:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, kind.schema) as writer:
            for table in tokenise(rows, columns, model, kind):
                writer.write_table(table.cast(kind.schema))
        draft.replace(output)
    except (RayTaskError, ValueError):
        _check_rows(rows, kind)
        raise
    finally:
        draft.unlink(missing_ok=True)


def _tokenise_here(rows: Path, columns: list[str], model: Path, kind: RowKind) -> Iterator[pa.Table]:
    """A worker would take longer to import the tokenizer than this takes."""
    table = pa.dataset.dataset(str(rows), format="parquet").to_table(columns=columns)
    yield _tokenise_chunk(table, str(model), kind)


def _tokenise_on_cluster(rows: Path, columns: list[str], model: Path, kind: RowKind) -> Iterator[pa.Table]:
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    with ray.data.DataContext.current(context):
        texts = ray.data.read_parquet(str(rows)).select_columns(columns)
        tokenised = texts.map_batches(
            cast(Any, _tokenise_chunk),
            fn_kwargs={"model": str(model), "kind": kind},
            batch_format="pyarrow",
            batch_size=ROWS_PER_CHUNK,
        )
        yield from cast(Iterable[pa.Table], tokenised.iter_batches(batch_format="pyarrow", batch_size=None))


def _tokenise_chunk(rows: pa.Table, model: str, kind: RowKind) -> pa.Table:
    if any(kind.fault(*row) for row in _rows_of(rows, kind)):
        raise ValueError(f"a row of {kind.name} is bad")
    return kind.tokenise(rows, model)


def _columns(rows: Path, kind: RowKind) -> list[str]:
    """Those to read. Raises `RaylevanceError` where one is missing."""
    try:
        schema = pa.dataset.dataset(str(rows), format="parquet").schema
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{rows}: not readable {kind.name}: {str(error).splitlines()[0]}") from None
    missing = [name for name in kind.columns if name not in schema.names]
    if missing:
        raise RaylevanceError(f"{rows}: has no column {', '.join(missing)}; training needs {', '.join(kind.columns)}")
    return [*kind.columns, *(name for name in kind.optional if name in schema.names)]


def _check_rows(rows: Path, kind: RowKind) -> None:
    """Raise for the first bad row. Ray tells that a task failed; this tells the user why."""
    for fragment in pa.dataset.dataset(str(rows), format="parquet").get_fragments():
        place = 0
        for batch in fragment.to_batches(columns=list(kind.columns)):
            for row in _rows_of(batch, kind):
                fault = kind.fault(*row)
                if fault:
                    raise RaylevanceError(f"{fragment.path}: row {place}: {fault}")
                place += 1


def _rows_of(rows: pa.Table | pa.RecordBatch, kind: RowKind) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in kind.columns), strict=True)
