"""The report page is one file, and titles are escaped."""

import re

import numpy as np
import pyarrow as pa
import pytest

from raylevance.evaluation.html_report import HtmlReport, render_html
from raylevance.evaluation.ranking_metrics import METRICS

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def page() -> str:
    texts = ["red kettle", HOSTILE, "a long query of six words"]
    queries = pa.table({"query_id": ["1", "2", "3"], "query": texts, "locale": ["us", "jp", "us"]})
    judgements = pa.table(
        {
            "query_id": ["1", "1", "2", "2", "3", "3"],
            "product_id": ["a", "b", "a", "b", "a", "b"],
            "label": ["E", "I", "E", "I", "E", "S"],
            "grade": pa.array([2, 0, 2, 0, 2, 1], pa.int8()),
        }
    )
    first, second = {"a": 2.0, "b": 1.0}, {"b": 2.0, "a": 1.0}
    summary = {
        name: {
            **{metric: 0.5 + place / 1000 for place, metric in enumerate(METRICS)},
            "ci95": {metric: [0.4, 0.6] for metric in METRICS},
            "minus": {"zero_shot": [0.1, 0.0, 0.2]},
        }
        for name in ("zero_shot", "stage 1")
    }
    return render_html(
        HtmlReport(
            title="A report",
            runs={
                "zero_shot": {"1": second, "2": second, "3": first},
                "stage 1": {"1": first, "2": first, "3": second},
            },
            baseline="zero_shot",
            candidate="stage 1",
            queries=queries,
            judgements=judgements,
            products=pa.table({"product_id": ["a", "b"], "title": [HOSTILE, "Kettle & pot"]}),
            scores={"zero_shot": np.full(6, 0.5), "stage 1": np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.5])},
            grades=np.array([2, 0, 2, 0, 2, 1]),
            summary=summary,
            margins={"stage 1": {"all": {"average": [0.712, 0.6, 0.8], "worst": [0.5, 0.4, 0.6]}, "overlapping": {}}},
            facts={"data": "three queries"},
        )
    )


def test_precision_recall_and_ndcg_by_grade_stand_beside_their_names(page: str) -> None:
    """The figures of each system at ranks 10, 50 and 100, in the order of the header."""
    table = page[page.index("By grade, at three ranks") :].split("</table>")[0]
    names = re.findall(r"<th>([^<\n]+)", table)
    assert names == ["system"] + [f"{name}@{k}" for name in ("nDCG", "recall", "precision") for k in (10, 50, 100)]
    keys = [f"{name.lower()}_grades" for name in names[1:]]
    expected = [f"{0.5 + METRICS.index(key) / 1000:.3f}" for key in keys]
    for row in table.split("<tr>")[2:]:
        assert re.findall(r"<td>(\d\.\d+)", row) == expected


def test_titles_and_queries_are_text(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Kettle &amp; pot" in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert re.findall(r"""(?:src|href)=["'](?!#)[^"']*["']|@import|url\((?!#)""", page) == []


def test_queries_that_moved_are_on_their_side(page: str) -> None:
    better, worse = page.split("<h2>Better")[1].split("<h2>Worse")
    assert "red kettle" in better and "red kettle" not in worse
    assert "a long query of six words" in worse and "a long query of six words" not in better


def test_margins_are_shown_where_there_are_any(page: str) -> None:
    row = page.split("<h2>Scores by grade")[1].split("<h2>")[0].split("<tr><td>stage 1")[1].split("</table>")[0]
    assert "0.712" in row and "0.600 to 0.800" in row and row.count("<td>-") == 2


def test_the_pictures_have_words(page: str) -> None:
    assert page.count("<svg") == 4
    assert len(re.findall(r'<figure role="img" aria-label="[^"]+"', page)) == 4


def test_the_queries_of_each_locale(page: str) -> None:
    assert "By locale" in page and "us (2)" in page and "jp (1)" in page
