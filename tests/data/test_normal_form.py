"""The normal form is one for all texts that look the same, and stays what it is."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.normal_form import clean, clean_column, normal_form, normal_form_column
from raylevance.data.text import query_key
from raylevance.data.words import words
from tests.disguises import disguised

WORDS = ["Steel", "mug", "Müsli", "pâté", "straße", "XR-40", "ランプ", "3.5mm", "Ёлка", "&"]
ANY_TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("&;#x12390ampulq \u00ad\u200b½™´"), max_size=25)


@settings(deadline=None)
@given(st.lists(disguised(WORDS), min_size=1, max_size=5))
def test_a_disguised_text_has_the_key_and_the_words_of_the_plain_one(drawn: list[tuple[str, str]]) -> None:
    plain, dressed = " ".join(word for word, _ in drawn), "\u3000".join(word for _, word in drawn)
    assert normal_form(dressed) == normal_form(plain)
    assert words(dressed) == words(plain)
    keys = query_key(pa.array([plain, dressed])).to_pylist()
    assert keys[0] == keys[1]


@settings(max_examples=500, deadline=None)
@given(st.lists(ANY_TEXT | st.none(), max_size=6))
def test_forms_are_their_own_forms_and_columns_have_them(texts: list[str | None]) -> None:
    forms = [text if text is None else normal_form(text) for text in texts]
    assert [form if form is None else normal_form(form) for form in forms] == forms
    cleaned = [text if text is None else clean(text) for text in texts]
    assert [text if text is None else clean(text) for text in cleaned] == cleaned
    assert [text if text is None else normal_form(text) for text in cleaned] == forms
    chunked = pa.chunked_array([texts[:2], texts[2:]], pa.string())
    for column in (chunked, pa.array(texts, pa.string())):
        assert normal_form_column(column).to_pylist() == forms
        assert clean_column(column).to_pylist() == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Salt &Amp; pepper &amp;amp; oil", "Salt & pepper & oil"),
        ("8&quot; pan, men&#39s &#X41;", "8\" pan, men's A"),
        ("M&UUML;SLI &nbsp oats", "MÜSLI \u00a0 oats"),
        ("por\u00adta\u200bble\ufeff \u202eabc\u202c", "portable abc"),
        ("R&D; AT&T; Q&A &foo; salt&pepper b&not so", "R&D; AT&T; Q&A &foo; salt&pepper b&not so"),
        ("M\u00fcsli\ttub ﾗﾝﾌﾟ ☕\ufe0f می\u200cشود", "M\u00fcsli\ttub ﾗﾝﾌﾟ ☕\ufe0f می\u200cشود"),
    ],
)
def test_clean_text_is_what_people_see(text: str, cleaned: str) -> None:
    """Joiners and variation selectors stay, because they have a meaning in some scripts and in emoji."""
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("LEGO™ City", "lego city"),
        ("drill bit 2½ in", "drill bit 2 1/2 in"),
        ("men´s shoe", "men s shoe"),
        ("45㎝ Ⅳ ﬁlter CO₂", "45cm iv filter co2"),
        ("STRASSE straße", "strasse strasse"),
        ("caf\u00e9 cafe\u0301 cafe", "caf\u00e9 caf\u00e9 cafe"),
        ("می\u200cشود", "میشود"),
    ],
)
def test_normal_forms(text: str, form: str) -> None:
    assert normal_form(text) == form
