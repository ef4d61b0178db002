"""Write rows of text, tokenised once, to an Arrow file that the workers map into memory."""

import functools
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

from raylevance.data.output_file import output_file
from raylevance.errors import RaylevanceError

ROWS_PER_CHUNK = 16_384

Tokens = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowKind:
    """A kind of training rows: the columns they have, what makes one invalid, and how they are tokenised.

    The functions must be module-level ones, since they are sent to Ray's workers.

    - `name`: what error messages call the rows, such as "graded pairs".
    - `columns`: Parquet columns that are read; all are required.
    - `schema`: schema of the token file.
    - `find_fault(*row)`: why a row, given its `columns`, is invalid, or None.
    - `load_tokenizer(model)`: the tokenizer of the model at that path.
    - `tokenise(table, tokenizer)`: a table of `columns` as one of `schema`.
    - `optional_columns`: columns that are read if the file has them. They are not checked by `find_fault`.
    """

    name: str
    columns: tuple[str, ...]
    schema: pa.Schema
    find_fault: Callable[..., str | None]
    load_tokenizer: Callable[[str], Any]
    tokenise: Callable[[pa.Table, Any], pa.Table]
    optional_columns: tuple[str, ...] = ()


def write_tokens(rows: Path, model: Path, output: Path, kind: RowKind) -> None:
    """Tokenise the Parquet file or folder `rows` for `model` into `output`, in the order of the rows.

    Does nothing if `output` exists.

    Raises `RaylevanceError` when

    - the file or one of the columns is missing,
    - there are no rows,
    - a row is invalid; the message names the file, the row and the reason.
    """
    if output.exists():
        return
    columns = _columns_to_read(rows, kind)
    count = pa.dataset.dataset(str(rows), format="parquet").count_rows()
    if not count:
        raise RaylevanceError(f"{rows}: has no {kind.name}")
    tokenise = _tokenise_here if count <= ROWS_PER_CHUNK else _tokenise_on_cluster
    try:
        with (
            output_file(output) as draft,
            pa.OSFile(str(draft), "wb") as sink,
            pa.ipc.new_file(sink, kind.schema) as writer,
        ):
            for table in tokenise(rows, columns, model, kind):
                writer.write_table(table.cast(kind.schema))
    except (RayTaskError, ValueError):
        _raise_for_first_fault(rows, kind)
        raise


def _tokenise_here(rows: Path, columns: list[str], model: Path, kind: RowKind) -> Iterator[pa.Table]:
    """Tokenise in this process: a Ray worker would take longer to import the tokenizer than this takes."""
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
    if any(kind.find_fault(*row) for row in _required_values(rows, kind)):
        raise ValueError(f"one of the {kind.name} is invalid")
    return kind.tokenise(rows, _cached_tokenizer(kind.load_tokenizer, model))


@functools.lru_cache(maxsize=1)
def _cached_tokenizer(load_tokenizer: Callable[[str], Any], model: str) -> Any:
    return load_tokenizer(model)


def _columns_to_read(rows: Path, kind: RowKind) -> list[str]:
    """Return the required columns and the optional ones that `rows` has.

    Raises `RaylevanceError` when `rows` can't be read or a required column is missing.
    """
    try:
        schema = pa.dataset.dataset(str(rows), format="parquet").schema
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{rows}: not readable {kind.name}: {str(error).splitlines()[0]}") from None
    missing = [name for name in kind.columns if name not in schema.names]
    if missing:
        raise RaylevanceError(f"{rows}: has no column {', '.join(missing)}; training needs {', '.join(kind.columns)}")
    return [*kind.columns, *(name for name in kind.optional_columns if name in schema.names)]


def _raise_for_first_fault(rows: Path, kind: RowKind) -> None:
    """Raise `RaylevanceError` for the first invalid row. Ray reports only that a task failed, not which row did."""
    for fragment in pa.dataset.dataset(str(rows), format="parquet").get_fragments():
        row_number = 0
        for batch in fragment.to_batches(columns=list(kind.columns)):
            for row in _required_values(batch, kind):
                fault = kind.find_fault(*row)
                if fault:
                    raise RaylevanceError(f"{fragment.path}: row {row_number}: {fault}")
                row_number += 1


def _required_values(rows: pa.Table | pa.RecordBatch, kind: RowKind) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in kind.columns), strict=True)
