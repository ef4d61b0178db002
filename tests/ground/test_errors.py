"""Hints in error messages."""

from raylevance.errors import LISTED, nearest


def test_a_similar_name_is_suggested() -> None:
    assert nearest("tems", ["items", "queries"]) == "did you mean 'items'?"


def test_few_names_are_all_listed() -> None:
    assert nearest("x", ["items", "queries"]) == "known: items, queries"
    assert nearest("x", []) == "there are none"


def test_of_many_names_the_first_are_listed() -> None:
    names = [f"{number:04}" for number in range(1000)]
    hint = nearest("x", names[::-1])
    assert hint.startswith("known: 0000, 0001, ") and hint.endswith(f"{names[LISTED - 1]} and {1000 - LISTED} more")
