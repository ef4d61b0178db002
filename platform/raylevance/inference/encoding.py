"""Encode texts with an encoder folder: in this process when they are few, on every processor or GPU otherwise."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.data
import torch

from raylevance.cluster import actor_pool_size, connected, count_gpus
from raylevance.models.encoder import Encoder, Vectors
from raylevance.models.precision import prepare_for_inference
from raylevance.models.tokenizer import Side
from raylevance.progress import progress_bar

CHUNK_TEXTS = 512
IN_PROCESS_TEXTS = 10_000
"""Texts up to this number are encoded in this process: an actor takes 20 s to import torch and load an encoder."""


def encode_texts(path: Path, texts: Sequence[str], side: Side) -> Vectors:
    """Return unit vectors float32 [n, d] of `texts`, in their order, by the encoder in the folder `path`."""
    if len(texts) <= IN_PROCESS_TEXTS:
        encoder = cached_encoder(path)
        if len(texts) < CHUNK_TEXTS:
            return _encode(encoder, texts, side)
        with progress_bar("encoding", "texts", len(texts)) as bar:
            return _encode(encoder, texts, side, progress=bar.advance)
    with connected():
        return encode_on_cluster(path, texts, side)


def encode_distinct(path: Path, texts: Sequence[str], side: Side) -> Vectors:
    """Return the same as `encode_texts`, encoding each distinct text once."""
    distinct = list(dict.fromkeys(texts))
    row_of = {text: row for row, text in enumerate(distinct)}
    return encode_texts(path, distinct, side)[[row_of[text] for text in texts]]


def pair_cosines(path: Path, queries: Sequence[str], texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the cosine of each query [n] with the item text [n] in the same place, float32 [n]."""
    query_vectors, item_vectors = encode_distinct(path, queries, "query"), encode_distinct(path, texts, "item")
    cosines: npt.NDArray[np.float32] = np.einsum("nd,nd->n", query_vectors, item_vectors)
    return cosines


def encode_on_cluster(path: Path, texts: Sequence[str], side: Side) -> Vectors:
    """Return the same as `encode_texts`, by one actor for each GPU, or for each processor where there is no GPU."""
    chunks = -(-len(texts) // CHUNK_TEXTS)
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    rows = (
        ray.data.from_arrow([table.slice(start, CHUNK_TEXTS) for start in range(0, len(texts), CHUNK_TEXTS)])
        .map_batches(
            EncodeChunk,
            fn_constructor_args=(path, side),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=actor_pool_size(chunks)),
            num_cpus=1,
            num_gpus=1 if count_gpus() else 0,
        )
        .iter_batches(batch_size=None, batch_format="numpy")
    )
    batches: list[Vectors] = []
    with progress_bar("encoding", "texts", len(texts)) as bar:
        for batch in rows:
            batches.append(np.asarray(batch["vector"], np.float32))
            bar.advance(len(batch["vector"]))
    return np.concatenate(batches)


class EncodeChunk:
    """A Ray Data actor that holds one encoder."""

    def __init__(self, path: Path, side: Side) -> None:
        """Load the encoder in the folder `path`."""
        self._encoder, self._side = load_on_device(path), side

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Encode the column `text` into the column `vector`."""
        return {"vector": _encode(self._encoder, batch["text"].tolist(), self._side)}


@functools.lru_cache(maxsize=1)
def cached_encoder(path: Path) -> Encoder:
    """Return the encoder in the folder `path`, on the GPU where there is one. The last one loaded stays in memory."""
    return load_on_device(path)


def load_on_device(path: Path) -> Encoder:
    """Load the encoder in the folder `path`, to encode and not to train, onto the GPU where there is one."""
    encoder = Encoder.load(path).to("cuda" if torch.cuda.is_available() else "cpu")
    prepare_for_inference(encoder)
    return encoder


def _encode(
    encoder: Encoder, texts: Sequence[str], side: Side, progress: Callable[[int], None] | None = None
) -> Vectors:
    return encoder.encode(texts, side, progress=progress)
