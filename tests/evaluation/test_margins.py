"""Margins between grades 2 and 0 equal those computed by hand; word overlap is counted."""

import numpy as np
import pytest

from raylevance.evaluation.margins import query_margins, word_overlap


def test_margins_by_hand() -> None:
    scores = np.array([0.9, 0.5, 0.1, 0.3, 0.8, 0.2, 0.4])
    grades = np.array([2, 2, 0, 0, 1, 2, 0])
    queries = ["a", "a", "a", "a", "a", "b", "b"]
    found = query_margins(scores, grades, queries)
    assert found["average"].tolist() == pytest.approx([0.7 - 0.2, -0.2])
    assert found["worst"].tolist() == pytest.approx([0.5 - 0.3, -0.2])


def test_a_query_without_both_grades_has_no_margin() -> None:
    found = query_margins(np.array([0.9, 0.5, 0.1]), np.array([2, 1, 0]), ["a", "a", "b"])
    assert found["average"].size == found["worst"].size == 0


def test_overlap_is_the_share_of_the_querys_words() -> None:
    queries = ["red running shoes", "Red shoes", "", "led LED lamp"]
    texts = ["Shoes, running, blue", "RED SHOES for men", "anything", "a lamp"]
    assert word_overlap(queries, texts).tolist() == pytest.approx([2 / 3, 1, 0, 0.5])
