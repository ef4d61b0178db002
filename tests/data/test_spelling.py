"""Misspelt variants have one error each, whole characters, and depend on the query; they enter the data as set."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylevance.data.hashing import hash_unit
from raylevance.data.spelling import VARIANT, SpellingSettings, add_misspelt_queries, misspell

QUERIES = ["garden hose", "led lamp", "running shoes men", "coffee maker", "desk", "wool blanket"] * 20


def variants(text: str, draws: int = 300) -> set[str]:
    return {misspell(text, np.random.default_rng(seed)) for seed in range(draws)}


def instances(queries: list[str]) -> pa.Table:
    named = [f"{query} {number}" for number, query in enumerate(queries)]
    return pa.table({"query": named, "items": [[f"item of {name}"] for name in named]})


@given(st.text("abcdefghijklmnopqrstuvwxyz ", max_size=30), st.integers(0, 2**64 - 1))
def test_a_misspelling_is_one_slip(text: str, bits: int) -> None:
    slipped = misspell(text, np.random.default_rng(bits))
    assert abs(len(slipped) - len(text)) <= 1
    assert [word[0] for word in slipped.split()] == [word[0] for word in text.split()]
    assert (slipped == text) == all(len(word) < 4 or len(set(word)) == 1 for word in text.split())


@given(st.text(max_size=30), st.integers(0, 2**32))
def test_any_text_is_taken(text: str, bits: int) -> None:
    slipped = misspell(text, np.random.default_rng(bits))
    assert sorted(filter(str.isdigit, slipped)) == sorted(filter(str.isdigit, text))


def test_the_kinds_of_slips() -> None:
    found = variants("lamp")
    assert {"lapm", "lap", "laamp", "lsmp"} <= found
    assert all(text[0] == "l" for text in found)


def test_words_of_chinese_and_korean_keep_every_character() -> None:
    for text in ("儿童运动鞋", "무선 블루투스 이어폰", "운동화 남성용", "テント 4人用"):
        assert all(set(variant) == set(text) for variant in variants(text))
        assert variants(text) - {text}


@pytest.mark.parametrize("text", ["café crème", unicodedata.normalize("NFD", "café crème"), "größe männer"])
def test_accents_stay_on_letters_or_are_left_out(text: str) -> None:
    marks = {unicodedata.normalize("NFC", text)[place] for place in range(len(unicodedata.normalize("NFC", text)))}
    for variant in variants(text):
        composed = unicodedata.normalize("NFC", variant)
        assert not any(unicodedata.combining(character) for character in composed), variant
        assert {character for character in composed if ord(character) > 127} <= marks


@pytest.mark.parametrize("text", ["niño español", "sofá de ratón", "jamón años"])
def test_a_wrong_key_for_an_accented_letter_is_the_letter_without(text: str) -> None:
    found = variants(text)
    assert all(set(variant) <= set(text) | set("abcdefghijklmnopqrstuvwxyz") for variant in found)
    bare = [unicodedata.normalize("NFD", character)[0] for character in text]
    accents = [place for place, character in enumerate(text) if bare[place] != character]
    assert {text[:place] + bare[place] + text[place + 1 :] for place in accents} <= found


@pytest.mark.parametrize("text", ["コーヒーメーカー", "ﾜｲﾔﾚｽｲﾔﾎﾝ", "時々使う椅子カバー"])
def test_japanese_characters_are_doubled_or_swapped(text: str) -> None:
    """This includes half-width kana, the long vowel mark and the iteration mark."""
    found = variants(text) - {text}
    assert found and all(set(variant) == set(text) and variant[0] == text[0] for variant in found)


def test_a_slip_stays_in_its_script() -> None:
    """Letters next to kana are a separate word, whose first letter stays."""
    for variant in variants("halvornのソファベッド"):
        letters = len(variant.encode("ascii", "ignore"))
        assert variant[:letters].isascii() and not any(map(str.isascii, variant[letters:]))
        assert variant[0] == "h" and variant[letters] == "の"


def test_numbers_are_never_changed() -> None:
    assert variants("3000 12345") == {"3000 12345"}


def test_additive_keeps_the_clean_and_adds_a_share() -> None:
    clean = instances(QUERIES)
    made = add_misspelt_queries(clean, SpellingSettings(share=0.4), seed=3)
    assert made.slice(0, clean.num_rows).equals(clean)
    added = made.slice(clean.num_rows)
    assert 0.25 < added.num_rows / clean.num_rows < 0.55
    by_item = dict(zip((items[0] for items in clean["items"].to_pylist()), clean["query"].to_pylist(), strict=True))
    assert all(by_item[row["items"][0]] != row["query"] for row in added.to_pylist())


def test_which_queries_are_misspelt_says_nothing_of_their_split() -> None:
    """Both depend on a hash of the text with the same seed of the recipe, but are independent."""
    queries = pa.table({"query": [f"garden hose {number}" for number in range(4000)]})
    training = queries.filter(pa.array(hash_unit(queries["query"], 0) < 0.8))
    added = add_misspelt_queries(training, SpellingSettings(share=0.4), seed=0).num_rows - training.num_rows
    assert added / training.num_rows == pytest.approx(0.4, abs=0.03)


def test_in_place_changes_a_share_and_adds_nothing() -> None:
    clean = instances(QUERIES)
    made = add_misspelt_queries(clean, SpellingSettings(mode="in-place", share=0.4), seed=3)
    changed = sum(a != b for a, b in zip(made["query"].to_pylist(), clean["query"].to_pylist(), strict=True))
    assert made.num_rows == clean.num_rows and 0.25 < changed / clean.num_rows < 0.55


def test_a_variant_depends_on_the_query_alone() -> None:
    clean = instances(QUERIES)
    whole = add_misspelt_queries(clean, SpellingSettings(share=1), seed=3).slice(clean.num_rows)
    alone = add_misspelt_queries(clean.slice(40, 10), SpellingSettings(share=1), seed=3).slice(10)
    assert set(alone["query"].to_pylist()) <= set(whole["query"].to_pylist())
    other = add_misspelt_queries(clean, SpellingSettings(share=1), seed=4).slice(clean.num_rows)
    assert other["query"].to_pylist() != whole["query"].to_pylist()


def test_a_variant_beside_its_query() -> None:
    """The rows stay the same, and the variants are those that `additive` adds."""
    given = instances(QUERIES)
    beside = add_misspelt_queries(given, SpellingSettings(mode="regularise"), seed=3)
    added = add_misspelt_queries(given, SpellingSettings(mode="additive"), seed=3).slice(given.num_rows)
    assert beside.drop_columns([VARIANT]).equals(given)
    assert beside[VARIANT].drop_null().to_pylist() == added["query"].to_pylist()
    assert beside.filter(beside[VARIANT].is_valid())["items"].to_pylist() == added["items"].to_pylist()
