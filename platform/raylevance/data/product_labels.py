"""Labels from the catalogue: category paths and columns as label spaces, and the labels and words of products."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from raylevance.data.hashing import hash_unit
from raylevance.data.label_space import LABELS, LEVEL, LabelSpace, label_text, name_key
from raylevance.data.normal_form import normal_form
from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.data.words import words as words_of
from raylevance.errors import RaylevanceError, nearest

CATEGORY = "category"
"""The task whose labels are category paths."""
ROWS_AT_ONCE = 65_536
"""How many products are read at a time."""
FEWEST_PRODUCTS = 2
"""How many products must have a word: one that a single product has is a model number or an error (our choice)."""

Rows = npt.NDArray[np.int32]


def category_labels(products: pa.Table, levels: int | None = None) -> pa.Table:
    """Return the nodes of the category paths of `products` as labels of the task "category", parents first.

    Paths are cut at `levels` levels, unless it is None. The id of a label is its path joined by " > ", and a label is
    predicted if the (cut) path of a product ends in it. Names that differ by case or spacing are one label, under the
    commonest spelling. The labels and their order do not depend on the order of the products.

    Raises `RaylevanceError` if no product has a category.
    """
    spellings: dict[str, Counter[str]] = {}
    ends: set[str] = set()
    for path, count in _counted_paths(products, levels).items():
        keys = [name_key(path[: depth + 1]) for depth in range(len(path))]
        for key, name in zip(keys, path, strict=True):
            spellings.setdefault(key, Counter())[name] += count
        ends.add(keys[-1])
    if not spellings:
        raise RaylevanceError("no product has a category; import one, or use another task")
    rows, path_of = [], dict[str, list[str]]()
    for key in sorted(spellings, key=lambda key: key.split(LEVEL)):
        parent = key.rpartition(LEVEL)[0] if LEVEL in key else None
        above = path_of[parent] if parent is not None else []
        path_of[key] = [*above, _commonest(spellings[key])]
        rows.append(_label(CATEGORY, path_of[key], above, key in ends))
    return pa.Table.from_pylist(rows, LABELS)


def column_labels(products: pa.Table, column: str) -> pa.Table:
    """Return the values of a text column of `products`, such as brand, as labels of the task `column`, by name.

    Values that differ by case or spacing are one label, under the commonest spelling, which is also its id. All are
    predicted.

    Raises `RaylevanceError` if there is no such column, or if no product has a value in it.
    """
    if column not in products.column_names:
        raise RaylevanceError(f"products: no column {column!r}; {nearest(column, products.column_names)}")
    spellings: dict[str, Counter[str]] = {}
    for value in pc.value_counts(products[column].cast(pa.string()).combine_chunks()).to_pylist():
        key = normal_form(value["values"] or "")
        if key:
            spellings.setdefault(key, Counter())[" ".join(value["values"].split())] += value["counts"]
    if not spellings:
        raise RaylevanceError(f"no product has a {column}; import one, or use another task")
    names = [_commonest(spellings[key]) for key in sorted(spellings)]
    return pa.Table.from_pylist([_label(column, [name], [], True) for name in names], LABELS)


def labels_of_products(products: pa.Table, space: LabelSpace) -> Rows:
    """Return the row in `space` of the label of each product for each task, int32 [products, tasks], -1 for none.

    The column of a product with the name of the task is its label: for a list such as category, the deepest predicted
    label on its path, for a text the label of this name, each in any case and spacing. A task without such a column,
    such as one of intents, has no labels of products.
    """
    found = np.full((products.num_rows, len(space.tasks)), -1, np.int32)
    for place, task in enumerate(space.tasks):
        if task in products.column_names:
            found[:, place] = _labels_of_column(products[task], space, task)
    return found


def frequent_words(products: pa.Table, space: LabelSpace, k: int = 16) -> list[list[str]]:
    """Return the words of product titles that tell each label best, [labels] lists of up to `k` words, best first.

    A word's weight is the share of the label's products that have it, times log(1 + labels / labels that have it),
    both over the labels of the task; the products of a label are also those of the labels above it. Words are in
    `FEWEST_PRODUCTS` products or more and have a letter. (tf-idf over labels; our choice)
    """
    counts, sizes, vocabulary = _count_words(products, space)
    names = np.array(vocabulary, object)
    best: list[list[str]] = []
    for task in space.tasks:
        rows = space.rows(task)
        part = counts[rows]
        idf = np.log1p((rows.stop - rows.start) / np.maximum(np.bincount(part.indices, minlength=len(names)), 1))
        for row in range(part.shape[0]):
            span = slice(part.indptr[row], part.indptr[row + 1])
            words = part.indices[span]
            weight = part.data[span] / max(sizes[rows.start + row], 1) * idf[words]
            order = np.lexsort((words, -weight))[:k]
            best.append([str(name) for name in names[words[order]]])
    return best


def titles_of_labels(products: pa.Table, space: LabelSpace, most: int) -> list[list[str]]:
    """Return the titles of up to `most` products of each label, [labels] lists, drawn by the hash of the product id.

    The products of a label are also those of the labels above it.
    """
    drawn = products.take(np.argsort(hash_unit(products["product_id"], purpose="titles of labels"), kind="stable"))
    found: list[list[str]] = [[] for _ in range(len(space))]
    for title, labels in zip(drawn["title"].to_pylist(), labels_of_products(drawn, space).tolist(), strict=True):
        for row in labels:
            while row >= 0:
                if len(found[row]) < most:
                    found[row].append(title)
                row = int(space.parents[row])
    return found


def _count_words(products: pa.Table, space: LabelSpace) -> tuple[csr_matrix, npt.NDArray[np.int64], list[str]]:
    """Return how many products of each label have each word [labels, words], those products, and the sorted words."""
    numbers: dict[str, int] = {}
    sizes = np.zeros(len(space), np.int64)
    seen: Counter[int] = Counter()
    cells = _ones([], [], (len(space), 0))
    for start in range(0, products.num_rows, ROWS_AT_ONCE):
        block = products.slice(start, ROWS_AT_ONCE)
        has_word = _words_of_block(block["title"], numbers)
        labels = labels_of_products(block, space)
        product, task = np.nonzero(labels >= 0)
        has_label = _ones(labels[product, task], product, (len(space), block.num_rows))
        sizes += np.asarray(has_label.sum(axis=1), np.int64).ravel()
        seen.update(dict(enumerate(np.bincount(has_word.indices).tolist())))
        wider = csr_matrix((cells.data, cells.indices, cells.indptr), (len(space), len(numbers)))
        cells = csr_matrix(wider + has_label @ has_word)
    kept = sorted(word for word, number in numbers.items() if seen[number] >= FEWEST_PRODUCTS and _has_letter(word))
    above = _ancestors(space)
    counts = csr_matrix(above @ cells[:, np.array([numbers[word] for word in kept], np.int64)])
    counts.sort_indices()
    return counts, np.asarray(above @ sizes, np.int64), kept


def _words_of_block(titles: pa.ChunkedArray, numbers: dict[str, int]) -> csr_matrix:
    """Return which title has which word, 1 in [titles, words], and number the new words in `numbers`."""
    products: list[int] = []
    found: list[int] = []
    for row, title in enumerate(titles.to_pylist()):
        for word in set(words_of(title or "")):
            products.append(row)
            found.append(numbers.setdefault(word, len(numbers)))
    return _ones(products, found, (len(titles), len(numbers)))


def _ones(rows: Any, columns: Any, shape: tuple[int, int]) -> csr_matrix:
    return csr_matrix((np.ones(len(rows), np.int64), (rows, columns)), shape)


def _has_letter(word: str) -> bool:
    return any(character.isalpha() for character in word)


def _ancestors(space: LabelSpace) -> csr_matrix:
    """Return a matrix [labels, labels] with 1 where the column is the label of the row or below it."""
    above, below = [], []
    for row in range(len(space)):
        here = row
        while here >= 0:
            above.append(here)
            below.append(row)
            here = int(space.parents[here])
    return _ones(above, below, (len(space), len(space)))


def _labels_of_column(column: pa.ChunkedArray, space: LabelSpace, task: str) -> Rows:
    is_path = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    texts = _joined(column) if is_path else column.cast(pa.string())
    encoded = texts.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    rows = [space.row_on_path(task, text.split(LEVEL) if is_path else [text]) for text in distinct]
    return np.asarray(np.array([*rows, -1], np.int32)[pc.fill_null(encoded.indices, -1).to_numpy()])


def _joined(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return each path as one text. ["A > B"] and ["A", "B"] are one path, as they are one in an import."""
    return pc.replace_substring(pc.binary_join(paths, LEVEL), CATEGORY_SEPARATOR, LEVEL)


def _counted_paths(products: pa.Table, levels: int | None) -> Counter[tuple[str, ...]]:
    """Return how many products have each path, without empty levels and cut at `levels`."""
    counted: Counter[tuple[str, ...]] = Counter()
    for value in pc.value_counts(_joined(products["category"]).combine_chunks()).to_pylist():
        names = [" ".join(name.split()) for name in (value["values"] or "").split(LEVEL) if normal_form(name)]
        if names:
            counted[tuple(names[:levels])] += value["counts"]
    return counted


def _commonest(spellings: Counter[str]) -> str:
    return min(spellings, key=lambda name: (-spellings[name], name))


def _label(task: str, path: list[str], above: list[str], predicted: bool) -> dict[str, object]:
    return {
        "task": task,
        "label_id": CATEGORY_SEPARATOR.join(path),
        "name": path[-1],
        "parent_id": CATEGORY_SEPARATOR.join(above) if above else None,
        "text": label_text(path),
        "predicted": predicted,
    }
