"""Tests of BM25: Lucene's formula by hand, matches, filters, and files without pickles."""

import math
from pathlib import Path

import numpy as np
import pytest

from raylevance.errors import RaylevanceError
from raylevance.index.lexical import LexicalIndex

TEXTS = ["red running shoes", "blue shoe for the running man", "green kettle", "", "shoes"]


@pytest.fixture(scope="module")
def index() -> LexicalIndex:
    return LexicalIndex.build(TEXTS)


def test_scores_are_lucenes() -> None:
    texts = [["red", "shoe"], ["red", "red", "kettle"], ["kettle"]]
    index = LexicalIndex.build([" ".join(text) for text in texts])
    scores, rows = index.search(["red"], 3)
    mean_length, idf = 2, math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = [idf * count / (count + 1.5 * (0.25 + 0.75 * size / mean_length)) for count, size in ((2, 3), (1, 2))]
    assert rows.tolist() == [[1, 0, -1]]
    np.testing.assert_allclose(scores[0, :2], expected, rtol=1e-6)
    assert np.isneginf(scores[0, 2])


def test_stems_case_and_stop_words(index: LexicalIndex) -> None:
    assert index.search(["SHOE"], 5)[1].tolist() == [[4, 0, 1, -1, -1]]
    assert index.search(["the for", "zebra", ""], 2)[1].tolist() == [[-1, -1]] * 3


def test_equal_scores_come_in_the_order_of_their_rows() -> None:
    index = LexicalIndex.build(["tea cup"] * 30)
    assert index.search(["cup"], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_a_filter_keeps_scores_and_drops_rows(index: LexicalIndex) -> None:
    scores, rows = index.search(["running shoes"], 5)
    allowed = np.array([True, False, True, True, True])
    kept_scores, kept_rows = index.search(["running shoes"], 5, allowed)
    assert kept_rows[0].tolist() == [row for row in rows[0] if row != 1] + [-1]
    np.testing.assert_array_equal(kept_scores[0, :2], scores[0, rows[0] != 1][:2])


def test_saved_and_loaded_is_the_same(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    loaded = LexicalIndex.load(tmp_path)
    assert len(loaded) == len(index) == len(TEXTS)
    for found, expected in zip(loaded.search(TEXTS, 3), index.search(TEXTS, 3), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_files_are_arrays_without_objects_and_json(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert {file.suffix for file in files} == {".npy", ".json"}
    for file in files:
        if file.suffix == ".npy":
            assert not np.load(file, allow_pickle=False).dtype.hasobject


def test_a_pickle_in_its_place_is_refused(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    np.save(tmp_path / "data.csc.index.npy", np.array([{"any": "object"}], object), allow_pickle=True)
    with pytest.raises(RaylevanceError, match="damaged BM25 index"):
        LexicalIndex.load(tmp_path)


def test_damaged_files(index: LexicalIndex, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="not a BM25 index"):
        LexicalIndex.load(tmp_path / "nowhere")
    index.save(tmp_path)
    (tmp_path / "vocab.index.json").write_text('{"red": ')
    with pytest.raises(RaylevanceError, match="damaged BM25 index"):
        LexicalIndex.load(tmp_path)


def test_words_without_spaces_are_found_by_pairs_of_characters() -> None:
    texts = ["Halvornのグレーのリネンのソファ", "革のブリーフケース", "枕", "Sofá de piel", "グレーsofa"]
    index = LexicalIndex.build(texts)
    assert index.search(["リネンソファ"], 2)[1].tolist() == [[0, -1]]
    assert index.search(["halvorn", "枕", "SOFÁ"], 2)[1].tolist() == [[0, -1], [2, -1], [3, -1]]
    assert sorted(index.search(["グレー"], 3)[1][0].tolist()) == [-1, 0, 4]


def test_accents_and_vowels_that_combine() -> None:
    """Decomposed accents match composed ones, and a combining mark does not split a word."""
    index = LexicalIndex.build(["cre\u0300me bru\u0302le\u0301e", "साड़ी", "सूट"])
    assert index.search(["cr\u00e8me br\u00fbl\u00e9e", "साड़ी", "स"], 2)[1].tolist() == [[0, -1], [1, -1], [-1, -1]]


def test_nothing_to_index() -> None:
    with pytest.raises(RaylevanceError, match="there is no word to index in 2 texts"):
        LexicalIndex.build(["", "the"])
