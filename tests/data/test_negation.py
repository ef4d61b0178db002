"""Tests of the words that a query excludes and that titles assert or negate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylevance.data.negation import excluded_stems, exclusions


@pytest.mark.parametrize(
    ("query", "excluded"),
    [
        ("wall lamp without cord", {"cord"}),
        ("wall lamp w/o cord", {"cord"}),
        ("desk chair no wheels for kids", {"wheel"}),
        ("lamp, no cord, white", {"cord"}),
        ("silverware box without silverware", set()),
        ("suit Without mesh liner in blue", {"mesh"}),
        ("curtains without grommets blackout 84 inch", {"grommet"}),
        ("lamp without cord no switch", {"cord", "switch"}),
        ("lights without wiring with switch", {"wire"}),
        ("shoes without the laces", {"lace"}),
        ("thermostat without c wire", {"wire"}),
        ("shirt without pockets or buttons", {"pocket"}),
        ("zero water filter", set()),
        ("coke zero 12 pack", set()),
        ("wall lamp w/out cord", {"cord"}),
        ("soap free of perfume", {"perfum"}),
        ("non slip bath mat", {"slip"}),
        ("no show socks", {"show"}),
        ("not your mother's curl cream", {"mother"}),
        ("chanel no 5", set()),
        ("samsung part no DA29 filter", set()),
        ("no 2 pencils", set()),
        ("sugar free gum", set()),
        ("lamp", set()),
        ("without", set()),
        ("", set()),
    ],
)
def test_what_a_query_does_not_want(query: str, excluded: set[str]) -> None:
    assert excluded_stems(query) == excluded


@pytest.mark.parametrize(
    ("title", "share"),
    [
        ("Wall Lamp with Cord", 1),
        ("Wall Lamp", 0),
        ("Wall Lamp without Cords", -1),
        ("Wall Lamp (No Cord) White", -1),
        ("Cordless Wall Lamp", -1),
        ("Cord-Free Wall Lamp", -1),
        ("Not dimmable, long cord", 1),
        ("Wall Lamp no switch - cord", 1),
        ("Lamp with cord, or without cord", -1),
        ("Lamp without shade and cord", -1),
        ("Lamp, no shade w/ cord", 1),
        ("Cord-Free LED Wall Lamp", -1),
        ("Lamp with cord free shipping", 1),
        ("Lamp cord less 50%", 1),
        ("No Drill Cordless Blinds", -1),
        ("Cord & Plug Free Lamp", -1),
        ("Plug and Cord-Free Lamp", -1),
        ("Cord Free Gift Basket", -1),
        ("Wall lamp w/out cord", -1),
        ("Wall lamp, zero cord", -1),
        ("Wall lamp free of cords", -1),
        ("Wall lamp, not cordless", 1),
        ("Noncord wall lamp", -1),
        ("Wall Lamp, Non-Cord", -1),
        ("Free cord", 1),
        ("", 0),
    ],
)
def test_what_a_title_says_of_a_word(title: str, share: float) -> None:
    assert exclusions(frozenset({"cord"}), [title]) == [share]


def test_accents_make_no_difference() -> None:
    assert exclusions(excluded_stems("salsa without jalapeño"), ["Jalapeno salsa", "Jalapen\u0303o salsa"]) == [1, 1]


def test_shares_of_several_words() -> None:
    titles = ["suit with mesh and liner", "mesh suit", "mesh suit without liner", "unlined suit"]
    assert exclusions(frozenset({"mesh", "liner"}), titles) == [1, 0.5, 0, 0]
    assert exclusions(frozenset(), titles) == [0, 0, 0, 0]


@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=4))
def test_any_text_is_read(query: str, titles: list[str]) -> None:
    excluded = excluded_stems(query)
    shares = exclusions(excluded, titles)
    assert len(shares) == len(titles) and all(-1 <= share <= 1 for share in shares)
    assert excluded or not any(shares)
