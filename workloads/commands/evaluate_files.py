"""Evaluate an encoder and its baselines on judged queries, and an encoder or a scorer on labelled pairs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.artifacts import Store
from raylevance.data.conversions import ID, TEXT, Kind
from raylevance.data.file_columns import file_column
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.normal_form import normal_form_column
from raylevance.data.readers.wands import GRADES as WANDS_GRADES
from raylevance.data.schema import ESCI_GRADES, GRADES, JUDGEMENTS, PRODUCTS, QUERIES
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError, first_quoted, nearest
from raylevance.evaluation.pair_metrics import best_threshold, evaluate_pairs
from raylevance.inference.encoder import NamedEncoder
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import pair_cosines
from raylevance.inference.scorer import Scorer
from raylevance.inference.scorer import load as load_scorer
from raylevance.progress import status
from workloads.steps.systems import rank_baselines, rank_by_encoder, rank_hybrid, summarise

EXAMPLE_COLUMNS = ("query_id", "query", "product_id", "esci_label")
PRODUCT_COLUMNS = ("product_id", "product_title", "product_brand", "product_color")
LOCALE = "product_locale"
SPLIT = "split"
RENAMED = {
    "title": "product_title",
    "description": "product_description",
    "bullets": "product_bullet_point",
    "brand": "product_brand",
    "color": "product_color",
    "category": "product_category",
    "locale": LOCALE,
}
NAMED_GRADES = {name.casefold(): grade for name, grade in (ESCI_GRADES | WANDS_GRADES).items()}
"""The labels of ESCI and WANDS that `evaluate pairs` reads, in any case."""
OTHER_LABELS = re.compile(r"(?:^|[\W_])labels?\s*$", re.IGNORECASE)
"""Names of columns that may be people's labels."""
NUMBERS = {"false": 0, "true": 1} | {f"{number}{decimals}": number for number in GRADES for decimals in ("", ".0")}


def evaluate_retrieval(encoder: str, store: str, examples: Path, products: Path) -> dict[str, Any]:
    """Rank all products for every query, from files in ESCI's official columns.

    A split column is ignored; where it has several values, a status line says so.

    Returns `{"queries": n, system: {metric: mean, "ci95": {metric: [low, high]}}}` for the systems dense, bm25,
    hybrid (dense and BM25 on the `full_text`, fused by score), zero_shot (the encoder's backbone on title, brand and
    colour), random.
    """
    asked, catalogue = read_table(examples, EXAMPLE_COLUMNS), read_table(products, PRODUCT_COLUMNS)
    by_locale = all(LOCALE in table.column_names for table in (asked, catalogue))
    judged = JudgedTables(
        _products(catalogue, products, by_locale), *_examples(asked, examples, by_locale)
    ).without_repeated_pairs()
    _name_unknown_products(judged, examples, products)
    _name_splits(asked, examples, judged.queries.num_rows)
    named = load_encoder(Store(store), encoder)
    runs = rank_hybrid(judged, named) | rank_baselines(judged, seed=0)
    backbone = load_encoder(Store(store), named.backbone)
    runs["zero_shot"] = rank_by_encoder(judged, backbone) if named.artifact else runs["dense"]
    systems = {system: runs[system] for system in ("dense", "bm25", "hybrid", "zero_shot", "random")}
    return {"queries": judged.queries.num_rows, **summarise(systems, judged.judgements)}


def _name_unknown_products(judged: JudgedTables, examples: Path, products: Path) -> None:
    """Say in a status line how many judged products are not in the catalogue, which no system can find.

    Raises `RaylevanceError` if none is in it.
    """
    ids = judged.judgements["product_id"]
    unknown = pc.unique(ids.filter(pc.invert(pc.is_in(ids, judged.products["product_id"].combine_chunks()))))
    judged_products = pc.count_distinct(ids).as_py()
    if not len(unknown):
        return
    named = first_quoted(unknown.to_pylist())
    if len(unknown) == judged_products:
        raise RaylevanceError(f"{products}: has none of the products that {examples} judges: {named}")
    status(
        f"{len(unknown)} of {judged_products} products that {examples} judges are not in {products}, and so no system "
        f"can find them: {named}"
    )


def _name_splits(asked: pa.Table, file: Path, queries: int) -> None:
    """Say in a status line that queries of all splits are measured, where the file has a column with several."""
    if SPLIT not in asked.column_names:
        return
    splits = sorted({str(value) for value in asked[SPLIT].unique().to_pylist() if value is not None})
    if len(splits) > 1:
        status(
            f"all {queries} queries of {file} are measured, those of every split ({', '.join(splits)}): "
            "an encoder may have learned from some; for the test queries alone, give a file with only those rows"
        )


def evaluate_pair_file(
    store: str,
    file: Path,
    products: Path | None,
    validation: Path | None = None,
    *,
    encoder: str | None = None,
    scorer: str | None = None,
) -> dict[str, Any]:
    """Return AUC, F1 with its threshold, and KS of an encoder's cosine or a scorer's probability on labelled pairs.

    The columns of `file`, and of `validation`: query, product_text or product_id, and label (0 or 1, true or false, or
    the labels of ESCI or WANDS) or grade (0, 1, 2). A file that has both is measured on its labels. `f1_threshold_from`
    says which pairs the threshold was chosen on: `validation`, the pairs of that file; `scorer`, the validation pairs
    of the scorer's training; or `these pairs`, where F1 is the best of any threshold. One of `encoder` and `scorer` is
    given.
    """
    assert (encoder is None) != (scorer is None), "give either an encoder or a scorer"
    named = load_encoder(Store(store), encoder) if encoder is not None else load_scorer(Store(store), str(scorer))
    # Both files are read before either is scored, which takes long.
    pairs = _read_pairs(file, products, named)
    held_out_pairs = None if validation is None else _read_pairs(validation, products, named)
    scores, labels = _scores(pairs, named), pairs.labels
    threshold, chosen_on = None, "these pairs"
    if validation is not None and held_out_pairs is not None:
        held_out = _scores(held_out_pairs, named), held_out_pairs.labels
        with _faults_of(validation):
            threshold, chosen_on = best_threshold(*held_out), "validation"
    elif isinstance(named, Scorer) and named.threshold is not None:
        threshold, chosen_on = named.threshold, "scorer"
    else:
        status("F1 is the best of any threshold on these pairs, so it is too high for new ones: give --validation")
    name = {"encoder": encoder} if encoder is not None else {"scorer": scorer}
    with _faults_of(file):
        measured = evaluate_pairs(scores, labels, threshold)
    return {"pairs": len(scores), **name, **measured, "f1_threshold_from": chosen_on}


@contextmanager
def _faults_of(file: Path) -> Iterator[None]:
    """Name the file in what is raised about its labels."""
    try:
        yield
    except RaylevanceError as error:
        raise RaylevanceError(f"{file}: {error}") from None


@dataclass(frozen=True)
class _Pairs:
    """Labelled pairs of a file, n of each."""

    queries: list[str]
    texts: list[str]
    ids: list[str] | None
    """The product_id of each pair; None where the file has none."""
    labels: npt.NDArray[np.integer]
    """0 or 1."""


def _read_pairs(file: Path, products: Path | None, named: NamedEncoder | Scorer) -> _Pairs:
    table = read_table(file, ["query"])
    label = _label_column(table, file)
    labels = _read_labels(table[label].to_pylist(), label, file)
    queries: list[str] = file_column(file, table, "query", TEXT).to_pylist()
    texts = _pair_texts(table, file, products, named)
    for column, values in {"query": queries, "product text": texts}.items():
        if empty := [row for row, value in enumerate(values, 1) if not value.strip()]:
            pairs = f"{len(empty)} of {len(values)} pairs"
            status(f"{file}: {pairs} have an empty {column}, which is scored as it is; the first is row {empty[0]}")
    named_ids = isinstance(named, Scorer) and "product_id" in table.column_names
    ids = file_column(file, table, "product_id", ID).to_pylist() if named_ids else None
    return _Pairs(queries, texts, ids, labels)


def _scores(pairs: _Pairs, named: NamedEncoder | Scorer) -> npt.NDArray[np.floating]:
    """Return the score of each pair, [n]."""
    if isinstance(named, Scorer):
        return named.score(pairs.queries, pairs.texts, pairs.ids)
    return pair_cosines(named.path, pairs.queries, pairs.texts)


def _label_column(table: pa.Table, file: Path) -> str:
    """Return `label` if the file has labels: they are people's, and a `grade` beside them may be a judge's."""
    names = table.column_names
    if "label" in names and (table["label"].null_count < table.num_rows or "grade" not in names):
        return "label"
    if "grade" not in names:
        raise RaylevanceError(f"{file}: no column 'label' or 'grade'; {nearest('label', names)}")
    if other := next((name for name in names if OTHER_LABELS.search(name) and name != "label"), None):
        raise RaylevanceError(
            f"{file}: has a column {other!r} beside 'grade'; name it 'label', or leave one of them out"
        )
    return "grade"


def _read_labels(values: list[Any], column: str, file: Path) -> npt.NDArray[np.integer]:
    """Return 0 and 1, or the numbers 0 to 2, of the values of a column of labels or grades.

    A grade, and a label by name such as E, is 1 if it is the highest. Raises `RaylevanceError` for the first null or
    other value, and for the first number among names.
    """
    texts = [str(value).strip().casefold() for value in values]
    known = NAMED_GRADES if texts[0] in NAMED_GRADES else NUMBERS
    for row, text in enumerate(texts):
        if values[row] is None:
            raise RaylevanceError(f"{file}: row {row + 1}: {column} is missing")
        if text not in known:
            expected = "0, 1 or 2, true or false, or all of them E, S, C and I or Exact, Partial and Irrelevant"
            raise RaylevanceError(f"{file}: row {row + 1}: {column} is {values[row]!r}, expected {expected}")
    numbers = np.array([known[text] for text in texts])
    return (numbers == 2).astype(int) if known is NAMED_GRADES or column == "grade" else numbers


def _examples(table: pa.Table, file: Path, by_locale: bool) -> tuple[pa.Table, pa.Table]:
    """Return the queries and judgements of an examples file. Raises `RaylevanceError` for an unknown label."""
    labels = file_column(file, table, "esci_label", TEXT)
    grades = pc.index_in(labels, pa.array(list(ESCI_GRADES)))
    if grades.null_count:
        row = int(np.flatnonzero(grades.is_null().to_numpy(zero_copy_only=False))[0])
        raise RaylevanceError(f"{file}: row {row + 1}: label {labels[row].as_py()!r} is not one of E, S, C, I")
    rows = table.num_rows
    columns = {
        "query_id": file_column(file, table, "query_id", ID),
        "product_id": _product_ids(table, file, by_locale),
        "label": labels,
        "grade": pc.take(pa.array(list(ESCI_GRADES.values()), pa.int8()), grades),
        "source": pa.repeat("human", rows),
        "confidence": pa.repeat(pa.scalar(1.0, pa.float32()), rows),
        "split": pa.nulls(rows, pa.string()),
    }
    judgements = pa.table(columns, schema=JUDGEMENTS)
    queries = pa.table({"query_id": columns["query_id"], "query": file_column(file, table, "query", TEXT)})
    _refuse_several_texts(queries, file)
    first = queries.group_by("query_id", use_threads=False).aggregate([("query", "first")])
    named = {
        "query_id": first["query_id"],
        "query": first["query_first"],
        "locale": pa.nulls(first.num_rows, pa.string()),
    }
    return pa.table(named, schema=QUERIES), judgements


def _refuse_several_texts(queries: pa.Table, file: Path) -> None:
    """Raise `RaylevanceError` for the first row with a query_id that stood for another text before."""
    keys = normal_form_column(queries["query"])
    pairs = pa.table({"query_id": queries["query_id"], "key": keys}).group_by("query_id", use_threads=False)
    first = pairs.aggregate([("key", "first")])
    firsts = first["key_first"].take(pc.index_in(queries["query_id"], first["query_id"].combine_chunks()))
    other = np.flatnonzero(pc.not_equal(keys, firsts).to_numpy())
    if len(other):
        row = int(other[0])
        raise RaylevanceError(
            f"{file}: row {row + 1}: query_id {queries['query_id'][row]} is {queries['query'][row].as_py()!r} here and "
            f"{firsts[row].as_py()!r} in a row above; give each query its own id"
        )


def _products(table: pa.Table, file: Path, by_locale: bool = False) -> pa.Table:
    """Return an official products file in our columns. Rows that repeat an id are left out and counted."""
    ids = _product_ids(table, file, by_locale)
    columns = {"product_id": ids}
    for field in PRODUCTS.remove(PRODUCTS.get_field_index("product_id")):
        name = RENAMED.get(field.name)
        if name is not None and name in table.column_names:
            columns[field.name] = file_column(file, table, name, Kind.of(field), required=False)
        else:
            columns[field.name] = pa.nulls(table.num_rows, field.type)
    columns["title"] = pc.fill_null(columns["title"], "")
    products = pa.table(columns, schema=PRODUCTS)
    _, first = np.unique(ids.to_numpy(zero_copy_only=False), return_index=True)
    if len(first) == len(ids):
        return products
    status(f"{file}: {len(ids) - len(first)} rows repeat the product_id of an earlier row and are left out")
    return products.take(np.sort(first))


def _product_ids(table: pa.Table, file: Path, by_locale: bool) -> pa.Array:
    """Return the ids, joined with the locale for `by_locale`: one id has other texts in other countries."""
    ids = file_column(file, table, "product_id", ID)
    if not by_locale:
        return ids
    return pc.binary_join_element_wise(
        ids, pc.fill_null(file_column(file, table, LOCALE, TEXT, required=False), ""), "@"
    )


def _pair_texts(table: pa.Table, file: Path, products: Path | None, named: NamedEncoder | Scorer) -> list[str]:
    if "product_text" in table.column_names:
        given = file_column(file, table, "product_text", TEXT, required=False)
        texts: list[str] = pc.fill_null(given, "").to_pylist()
        return texts
    if "product_id" not in table.column_names or products is None:
        raise RaylevanceError(f"{file}: needs a column product_text, or product_id together with --products")
    catalogue = _products(read_table(products, PRODUCT_COLUMNS), products)
    ids = file_column(file, table, "product_id", ID)
    place = pc.index_in(ids, catalogue["product_id"].combine_chunks())
    if place.null_count:
        row = int(np.flatnonzero(place.is_null().to_numpy(zero_copy_only=False))[0])
        raise RaylevanceError(f"{file}: row {row + 1}: product {ids[row]} is not in {products}")
    texts = named.item_texts(catalogue.take(place))
    return texts
