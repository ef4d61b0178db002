"""The words of the shop hold together: what refers to another is there, and no word has two meanings in a leaf."""

from collections import Counter

import pytest

from raylevance.demo.catalogue import BRANDS_A_LEAF, PERIODS
from raylevance.demo.lexicon import BRAND, words
from raylevance.demo.vocabulary import BRAND_GROUPS, LEAVES, NEEDS, PALETTES, Leaf, terms

NAMES = [leaf.name for leaf in LEAVES]


def test_a_taxonomy_of_three_levels_and_sixty_leaves_or_more() -> None:
    assert len(set(NAMES)) == len(LEAVES) >= 60
    assert all(len(leaf.path) == 3 for leaf in LEAVES)
    assert len({leaf.path[0] for leaf in LEAVES}) >= 8


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_a_leaf_refers_to_what_is_there(leaf: Leaf) -> None:
    assert leaf.brands in BRAND_GROUPS and leaf.colours in PALETTES
    assert set(leaf.complements) <= set(NAMES) - {leaf.name}


def test_needs_refer_to_leaves() -> None:
    assert {name for names in NEEDS.values() for name in names} <= set(NAMES)


def test_types_belong_to_one_leaf_each() -> None:
    forms = Counter(form for leaf in LEAVES for meaning in terms(leaf.types) for form in meaning)
    assert [form for form, count in forms.items() if count > 1] == []


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_a_word_has_one_meaning_in_a_leaf(leaf: Leaf) -> None:
    texts = (leaf.types, PALETTES[leaf.colours], leaf.materials, leaf.styles, leaf.sizes)
    forms = Counter(form for text in texts for meaning in terms(text) for form in meaning)
    assert [form for form, count in forms.items() if count > 1] == []


def test_values_fit_into_their_period() -> None:
    for values in words().values:
        for attribute, meanings in enumerate(values):
            count = min(len(meanings), BRANDS_A_LEAF) if attribute == BRAND else len(meanings)
            assert 2 <= count <= PERIODS[attribute]


def test_brands_have_one_tier() -> None:
    names = [name for group in BRAND_GROUPS.values() for name, _ in group]
    assert len(names) == len(set(names))
