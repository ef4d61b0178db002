"""`raylevance encode`: write the vectors of a column of texts."""

from pathlib import Path
from typing import Any

from raylevance.artifacts import Store
from raylevance.data.npy_file import write_npy
from raylevance.data.whole_table import texts_of
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import encode_texts


def encode_file(encoder: str, store: str, file: Path, column: str, output: Path, side: str) -> dict[str, Any]:
    """Write `column` of `file` as vectors to `output` (.npy) and return a summary of what was written.

    `side` is the tower that encodes, query or item.
    """
    texts = texts_of(file, column)
    named = load_encoder(Store(store), encoder)
    vectors = encode_texts(named.path, texts, "query" if side == "query" else "item")
    write_npy(output, vectors)
    return {"output": str(output), "rows": len(vectors), "dimensions": vectors.shape[1], "encoder": encoder}
