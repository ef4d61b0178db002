"""Build `index/<name>`: a catalogue under one encoder, with the bands of the grades."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.config import load_settings
from raylevance.data.id_rows import rows_of_ids
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.text import FULL_TEXT_COLUMNS
from raylevance.errors import RaylevanceError, UsageError
from raylevance.index.grades import GradeBands, fit_grade_bands
from raylevance.index.products import ProductIndex, ProductIndexSettings
from raylevance.index.shards import VectorSearch
from raylevance.inference.embeddings import embed_items
from raylevance.inference.encoder import backbone_digest, backbone_path
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import encode_texts
from raylevance.inference.grade_bands import load_bands
from raylevance.models.encoder import Encoder, Vectors
from raylevance.progress import status
from workloads.run import Run


def index_step(run: Run, name: str, tables: Artifact, encoder: Artifact, settings: ProductIndexSettings) -> Artifact:
    """Return `index/<name>`: every product of `tables`, encoded by `encoder`.

    The bands of the grades are the encoder's own, which were fitted on queries that it did not learn from. For an
    encoder without bands they are fitted on the training judgements of `tables`; where these have fewer than two
    grades, the index has no bands, and a status line says why.
    """

    def build(draft: Draft) -> None:
        folder = run.store.path(tables.ref)
        named = load_encoder(run.store, encoder.ref)
        bands = load_bands(named.path)
        judged = None if bands else _judged_to_fit(folder)
        if settings.fusion.method == "graded" and not bands and not judged:
            lacks = f"{encoder.ref} has none and {tables.ref} has no training judgements of two grades to fit them on"
            raise RaylevanceError(f"fusion.method=graded needs grade bands: {lacks}")
        products = pq.read_table(folder / "products")
        vectors = embed_items(run.store, named, named.item_texts(products))
        index = ProductIndex.build(products, vectors, settings)
        index.bands = bands
        if judged:
            index.bands = _fit_bands(judged, named.path, index.vectors)
        index.save(draft.path)
        draft.metrics |= index.describe()

    described = {**dict(settings), "bm25": list(FULL_TEXT_COLUMNS)}
    return run.step(f"index/{name}", build, settings=described, inputs=[tables, encoder])


def build_index(
    encoder: str, products: str, store: str, config: Path | None, overrides: Sequence[str], name: str | None = None
) -> Artifact:
    """Index the tables `products` of the store as `index/<name>` (`raylevance index build`).

    `encoder` is an artifact of the store, or a pretrained encoder, which is published first. The index has the name of
    the encoder unless told.
    """
    settings = load_settings(ProductIndexSettings, config, overrides)
    run = Run(Store(store))
    tables = run.store.get(products)
    with run:
        made_by = run.store.get(encoder) if encoder.startswith("encoder/") else pretrained_step(run, encoder)
        return index_step(run, name or made_by.name.partition("/")[2], tables, made_by, settings)


def pretrained_step(run: Run, path: str) -> Artifact:
    """Return `encoder/<name>`: the encoder at a Hugging Face path or id, as it is, so that it can be served.

    The name is the last part of `path`, in the letters of artifacts. Raises `UsageError` where that leaves nothing.
    """
    folder = backbone_path(path)
    last = path if path == "minilm" else folder.absolute().name
    name = re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("._-")
    if not name:
        raise UsageError(f"--encoder {path}: its last part names the artifact, and needs a letter of a-z or a digit")
    named = str(folder.absolute()) if path != "minilm" and folder.is_dir() else path
    described = {"encoder": {"backbone": named}, "backbone": backbone_digest(path)}
    return run.step(f"encoder/{name}", lambda draft: Encoder.load(folder).save(draft.path), settings=described)


def pair_scores(judged: JudgedTables, queries: Vectors, products: VectorSearch) -> Vectors:
    """Return the cosine of every judged pair, in the order of the judgements.

    `queries` [n, d] are the vectors of the queries of `judged`, in their order.
    """
    query, product = (
        rows_of_ids(judged.judgements[name], table[name], f"{name} {{}} is judged, but it is not in the tables")
        for name, table in (("query_id", judged.queries), ("product_id", judged.products))
    )
    scores: Vectors = np.einsum("nd,nd->n", queries[query], products.vectors(product))
    return scores


def _judged_to_fit(folder: Path) -> JudgedTables | None:
    """Read the training judgements of a tables folder; None where they can't be used or have fewer than two grades."""
    try:
        if not all((folder / table).is_dir() for table in ("queries", "judgements")):
            raise RaylevanceError("the tables have no judgements")
        train = JudgedTables.read(folder).split(TRAIN)
        if len(grades := pc.unique(train.judgements["grade"]).to_pylist()) < 2:
            raise RaylevanceError(f"all training judgements have the grade {grades[0]}")
    except RaylevanceError as error:
        status(f"index: hits get no grades, and minimum_grade is refused: {error}")
        return None
    return train


def _fit_bands(train: JudgedTables, encoder: Path, products: VectorSearch) -> GradeBands:
    queries = encode_texts(encoder, train.queries["query"].to_pylist(), "query")
    return fit_grade_bands(pair_scores(train, queries, products), train.judgements["grade"].to_numpy())
