"""`raylevance encode`: write the vectors of a column of texts."""

from pathlib import Path
from typing import Any

from raylevance.artifacts import Store
from raylevance.data.npy_file import write_npy
from raylevance.data.whole_table import texts_of
from raylevance.errors import UsageError
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import encode_texts


def encode_file(encoder: str, store: str, file: Path, column: str, output: Path, side: str) -> dict[str, Any]:
    """Write `column` of `file` as vectors to `output` (.npy) and return a summary of what was written."""
    if side not in ("query", "item"):
        raise UsageError(f"--side {side}: expected query or item")
    if output.suffix != ".npy":
        raise UsageError(f"--output {output}: expected a name that ends in .npy")
    named = load_encoder(Store(store), encoder)
    texts = texts_of(file, column)
    vectors = encode_texts(named.path, texts, "query" if side == "query" else "item")
    write_npy(output, vectors)
    return {"output": str(output), "rows": len(vectors), "dimensions": vectors.shape[1], "encoder": encoder}
