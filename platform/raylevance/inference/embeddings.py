"""Vectors of a whole catalogue: encoded once for an encoder and its texts, in shards, and kept in the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import ray.data
import torch

from raylevance.artifacts import Store, fingerprint
from raylevance.cluster import actor_pool_size, count_gpus
from raylevance.data.hashing import hash_strings
from raylevance.data.npy_file import write_npy
from raylevance.inference.encoder import NamedEncoder, backbone_digest
from raylevance.inference.encoding import IN_PROCESS_TEXTS, cached_encoder, encode_texts
from raylevance.inference.grade_bands import BANDS
from raylevance.models.encoder import Vectors
from raylevance.models.precision import autocast_dtype


@dataclass(frozen=True)
class Shard:
    """The rows from `start` up to `stop` of a products table, whose vectors are in `file`."""

    file: str
    start: int
    stop: int


def embed_products(store: Store, encoder: NamedEncoder, products: Path, rows_per_shard: int) -> list[Path]:
    """Return the .npy files with the vectors of a products table, `rows_per_shard` rows each, in its order.

    The name of a file depends on the encoder and its item texts, so a shard that exists is not encoded again. Memory is
    bounded by one shard for each actor.
    """
    rows = pa.dataset.dataset(products, format="parquet").count_rows()
    shards = []
    for start in range(0, rows, rows_per_shard):
        texts = encoder.item_texts(read_rows(products, start, start + rows_per_shard, encoder.item_columns))
        file = _vectors_file(store, encoder, texts)
        shards.append(Shard(str(file), start, min(start + rows_per_shard, rows)))
    missing = [shard for shard in shards if not Path(shard.file).exists()]
    if sum(shard.stop - shard.start for shard in missing) <= IN_PROCESS_TEXTS:
        for shard in missing:
            EmbedShard(encoder, products)(vars(shard))
    else:
        _embed_on_cluster(encoder, products, missing)
    return [Path(shard.file) for shard in shards]


def embed_items(store: Store, encoder: NamedEncoder, texts: Sequence[str]) -> Vectors:
    """Return vectors float32 [n, d] of item texts, which are kept in the store for the same encoder and texts."""
    file = _vectors_file(store, encoder, texts)
    if file.exists():
        return np.load(file)  # type: ignore[no-any-return]
    vectors = encode_texts(encoder.path, texts, "item")
    write_npy(file, vectors)
    return vectors


def read_rows(folder: Path, start: int, stop: int, columns: list[str]) -> pa.Table:
    """Read `columns` of the rows from `start` up to `stop` of the Parquet files in `folder`, ordered by file name.

    Only the row groups that hold these rows are read.
    """
    tables = []
    first = 0
    files = pa.dataset.dataset(folder, format="parquet").get_fragments()
    for group in chain.from_iterable(file.split_by_row_group() for file in files):
        count = group.row_groups[0].num_rows
        low, high = max(start, first) - first, min(stop, first + count) - first
        if low < high:
            tables.append(group.to_table(columns=columns).slice(low, high - low))
        first += count
    return pa.concat_tables(tables)


class EmbedShard:
    """A Ray Data actor that holds one encoder and writes the vectors of one shard after the other."""

    def __init__(self, encoder: NamedEncoder, products: Path) -> None:
        """Load the encoder; `products` is the folder of the products table."""
        self._named, self._products = encoder, products
        self._encoder = cached_encoder(encoder.path)

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Write the vectors of `shard`, a `Shard` as a dictionary, to its file."""
        rows = read_rows(self._products, shard["start"], shard["stop"], self._named.item_columns)
        write_npy(Path(shard["file"]), self._encoder.encode_items(self._named.item_texts(rows)))
        return shard


def _vectors_file(store: Store, encoder: NamedEncoder, texts: Sequence[str]) -> Path:
    """Name the file by the encoder's weights, its number format and the texts: stages with equal weights share it."""
    if encoder.artifact:
        files = encoder.artifact.files
        made_by = fingerprint([[file.path, file.sha256] for file in files if file.path != BANDS])
    else:
        made_by = backbone_digest(str(encoder.path))
    precision = autocast_dtype("cuda" if torch.cuda.is_available() else "cpu")
    hashes = hash_strings(pa.array(texts, pa.large_string()))
    return store.work_folder("embeddings") / f"{fingerprint(made_by, str(precision), hashes.tobytes().hex())}.npy"


def _embed_on_cluster(encoder: NamedEncoder, products: Path, shards: list[Shard]) -> None:
    ray.data.from_items([vars(shard) for shard in shards], override_num_blocks=len(shards)).map(
        cast(Any, EmbedShard),
        fn_constructor_args=(encoder, products),
        compute=ray.data.ActorPoolStrategy(size=actor_pool_size(len(shards))),
        num_cpus=1,
        num_gpus=1 if count_gpus() else 0,
    ).materialize()
