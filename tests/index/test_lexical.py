"""Tests of BM25: Lucene's formula by hand, matches, filters, and files without pickles."""

import json
import math
from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.errors import RaylevanceError
from raylevance.index.lexical import LexicalIndex
from tests.disguises import disguised

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
    assert index.search(["zebra", "", "!?"], 2)[1].tolist() == [[-1, -1]] * 3
    np.testing.assert_array_equal(index.search(["the shoe for a man"], 5), index.search(["shoe man"], 5))


def test_a_query_of_stop_words_finds_the_texts_that_have_them(index: LexicalIndex) -> None:
    assert index.search(["the for", "The"], 2)[1].tolist() == [[1, -1]] * 2
    films = LexicalIndex.build(["It, paperback", "The Who: Who Are You", "Not Without My Cat"])
    assert films.search(["it", "are you", "the zebra"], 2)[1].tolist() == [[0, -1], [1, -1], [-1, -1]]


def test_equal_scores_come_in_the_order_of_their_rows() -> None:
    index = LexicalIndex.build(["tea cup"] * 30)
    assert index.search(["cup"], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_a_filter_keeps_scores_and_drops_rows(index: LexicalIndex) -> None:
    scores, rows = index.search(["running shoes"], 5)
    allowed = np.array([True, False, True, True, True])
    kept_scores, kept_rows = index.search(["running shoes"], 5, allowed)
    assert kept_rows[0].tolist() == [row for row in rows[0] if row != 1] + [-1]
    np.testing.assert_array_equal(kept_scores[0, :2], scores[0, rows[0] != 1][:2])


def test_stop_words_and_joined_model_numbers_do_not_make_a_text_longer() -> None:
    short = LexicalIndex.build(["lamp XR 40", "desk lamp", "lamp"])
    long = LexicalIndex.build(["the lamp XR-40", "a desk lamp", "this is a lamp"])
    for found, expected in zip(
        long.search(["lamp", "xr", "desk"], 3), short.search(["lamp", "xr", "desk"], 3), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_filter_drops_rows_that_stop_words_and_model_numbers_find() -> None:
    index = LexicalIndex.build(["the XR-40", "the XR-40 lamp"])
    assert index.search(["the", "xr40"], 2, np.array([False, True]))[1].tolist() == [[1, -1]] * 2


def test_saved_and_loaded_is_the_same(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    loaded = LexicalIndex.load(tmp_path)
    assert len(loaded) == len(index) == len(TEXTS)
    queries = [*TEXTS, "the", "for the"]
    for found, expected in zip(loaded.search(queries, 3), index.search(queries, 3), strict=True):
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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("desk lamp", [0, 1]),
        ("ｄｅｓｋ", [0, 1]),
        ("ﾗﾝﾌﾟ", [2, 3]),
        ("ランプ", [2, 3]),
        ("baffle", [4]),
        ("30cm", [5]),
        ("XII", [6]),
        ("soap\u200bdish", [7, 8, 9]),
        ("grün", [10]),
        ("crème", [11]),
        ("oak chair", [12]),
        ("1 1/2 inch", [13]),
        ("lego", [14]),
        ("nbsp", []),
        ("uuml", []),
        ("amp", []),
    ],
)
def test_texts_that_look_the_same_are_found_alike(query: str, expected: list[int]) -> None:
    catalogue = [
        *("ＤＥＳＫ　ＬＡＭＰ", "desk lamp", "黒いランプ", "黒いﾗﾝﾌﾟ", "ba\ufb04e board", "ruler 30㎝", "volume Ⅻ"),
        *(
            "soapdish",
            "soap\u00addish",
            "\ufeffsoapdish\u200f",
            "gr&Uuml;n &Amp; blau",
            "cr&#xe8;me br&amp;ucirc;l&eacute;e",
        ),
        *("oak&nbsp;chair&nbsp", "bolt 1½ inch", "Lego™ set"),
    ]
    rows = LexicalIndex.build(catalogue).search([query], 5)[1][0]
    assert sorted(rows[rows >= 0].tolist()) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(disguised(["Wool", "rug", "Ünder", "300cm", "XR-40", "ランプ"]), min_size=1, max_size=4))
def test_a_disguised_word_is_the_plain_word(words: list[tuple[str, str]]) -> None:
    plain, dressed = (" ".join(column) for column in zip(*words, strict=True))
    texts = ["desk", plain, dressed, "wool"]
    scores, rows = LexicalIndex.build(texts).search([plain, dressed], 4)
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(scores[0], scores[1])
    assert rows[0, :2].tolist() == [1, 2] and scores[0, 0] == scores[0, 1]


@pytest.mark.parametrize(
    ("title", "query"),
    [
        ("WH-1000XM4 headphones", "wh1000xm4"),
        ("WH1000XM4 headphones", "wh-1000xm4"),
        ("Mixer HX\u2011720B, red", "hx720b"),
        ("Drill bit DX_40_A", "dx40a"),
        ("2-in-1 shampoo", "2in1"),
        ("Lens AB-18-55", "ab1855"),
    ],
)
def test_a_model_number_is_found_with_and_without_its_hyphens(title: str, query: str) -> None:
    assert LexicalIndex.build(["canvas apron", title]).search([query], 2)[1].tolist() == [[1, -1]]


def test_a_range_and_a_word_with_a_hyphen_are_no_model_numbers() -> None:
    index = LexicalIndex.build(["5-10cm nails", "t-shirt", "pens 10-20"])
    assert index.search(["510cm", "tshirt", "1020"], 1)[1].tolist() == [[-1]] * 3


def test_a_query_without_accents_finds_words_with_them() -> None:
    """And one with accents finds words without them where no text has the accents."""
    index = LexicalIndex.build(["Café table", "cafe chair", "Jalapeno sauce", "ёлка"])
    found = index.search(["cafe", "café", "jalapeño", "елка"], 3)[1]
    assert [sorted(row[row >= 0].tolist()) for row in found] == [[0, 1], [0], [2], [3]]


def test_an_index_of_plain_words_answers_as_before(tmp_path: Path) -> None:
    """An index without a words.json holds words in composed form and lower case, and no stop words."""
    texts = ["desk lamp for the office", "ＬＡＭＰ", "it", "HX-720B", "café"]
    tokens = bm25s.tokenize(texts, r"(?u)\w+", stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)
    old = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    old.index(tokens, create_empty_token=False, show_progress=False)
    old.save(tmp_path / "old", show_progress=False)
    queries = ["lamp for", "ｌａｍｐ", "it", "hx720b", "HX-720B", "cafe", "cafe\u0301"]
    expected = [[0], [1], [-1], [-1], [3], [-1], [4]]
    index = LexicalIndex.load(tmp_path / "old")
    assert index.search(queries, 1)[1].tolist() == expected
    index.save(tmp_path / "again")
    assert LexicalIndex.load(tmp_path / "again").search(queries, 1)[1].tolist() == expected


def test_an_index_of_a_newer_raylevance_is_refused(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    (tmp_path / "words.json").write_text(json.dumps({"words": 9}))
    with pytest.raises(RaylevanceError, match=r"words\.json: words of kind 9 are unknown here; upgrade raylevance"):
        LexicalIndex.load(tmp_path)


def test_nothing_to_index() -> None:
    with pytest.raises(RaylevanceError, match="there is no word to index in 2 texts"):
        LexicalIndex.build(["", "the"])
