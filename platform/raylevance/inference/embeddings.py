"""The vectors of a catalogue in shards, encoded once for an encoder and its texts, on all nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import ray
import ray.data
import torch

from raylevance.artifacts import Store, fingerprint
from raylevance.data.hashing import hash_strings
from raylevance.inference.encoding import (
    FEW,
    NamedEncoder,
    Vectors,
    backbone_digest,
    encode_texts,
    on_device,
    write_npy,
)
from raylevance.inference.grade_bands import BANDS
from raylevance.models.encoder import Encoder
from raylevance.models.precision import autocast_dtype


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of a Parquet folder, whose vectors are in `file`."""

    file: str
    start: int
    stop: int


def embed_products(store: Store, encoder: NamedEncoder, products: Path, rows_per_shard: int) -> list[Path]:
    """The .npy files of the vectors of the table `products`, in its order, `rows_per_shard` rows each.

    A shard is named by the encoder and its texts: one whose file is there is not encoded again. Memory is a shard an
    actor; a few products are encoded in this process.
    """
    rows = pa.dataset.dataset(products, format="parquet").count_rows()
    shards = []
    for start in range(0, rows, rows_per_shard):
        texts = encoder.item_texts(read_rows(products, start, start + rows_per_shard, encoder.item_columns))
        shards.append(Shard(str(_file(store, encoder, texts)), start, min(start + rows_per_shard, rows)))
    missing = [shard for shard in shards if not Path(shard.file).exists()]
    if sum(shard.stop - shard.start for shard in missing) <= FEW:
        for shard in missing:
            EmbedShard(encoder, products)(vars(shard))
    else:
        _embed_on_cluster(encoder, products, missing)
    return [Path(shard.file) for shard in shards]


def embed_items(store: Store, encoder: NamedEncoder, texts: Sequence[str]) -> Vectors:
    """Vectors float32 [n, d] of item texts, kept like those of a shard: the same texts are not encoded again."""
    file = _file(store, encoder, texts)
    if file.exists():
        return np.load(file)  # type: ignore[no-any-return]
    vectors = encode_texts(encoder.path, texts, "item")
    write_npy(file, vectors)
    return vectors


def _file(store: Store, encoder: NamedEncoder, texts: Sequence[str]) -> Path:
    """Named by what the encoder is, computes in and reads: two stages with the same weights share it."""
    if encoder.artifact:
        files = encoder.artifact.files
        made_by = fingerprint([[file.path, file.sha256] for file in files if file.path != BANDS])
    else:
        made_by = backbone_digest(str(encoder.path))
    precision = autocast_dtype("cuda" if torch.cuda.is_available() else "cpu")
    hashes = hash_strings(pa.array(texts, pa.large_string()))
    return store.work_folder("embeddings") / f"{fingerprint(made_by, str(precision), hashes.tobytes().hex())}.npy"


class EmbedShard:
    """A Ray Data actor that holds one encoder and writes the vectors of one shard after the other."""

    def __init__(self, encoder: NamedEncoder, products: Path) -> None:
        self._named, self._products = encoder, products
        self._encoder = _loaded(encoder.path)

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        rows = read_rows(self._products, shard["start"], shard["stop"], self._named.item_columns)
        write_npy(Path(shard["file"]), self._encoder.encode_items(self._named.item_texts(rows)))
        return shard


def read_rows(folder: Path, start: int, stop: int, columns: list[str]) -> pa.Table:
    """`columns` of rows `start` to `stop` of the Parquet files of a products table, in the order of their names.

    Of the files, only the row groups that hold these rows are read.
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


def _embed_on_cluster(encoder: NamedEncoder, products: Path, shards: list[Shard]) -> None:
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    ray.data.from_items([vars(shard) for shard in shards], override_num_blocks=len(shards)).map(
        cast(Any, EmbedShard),
        fn_constructor_args=(encoder, products),
        compute=ray.data.ActorPoolStrategy(size=min(gpus or int(resources["CPU"]), len(shards))),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    ).materialize()


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Encoder:
    return on_device(Encoder.load(path))
