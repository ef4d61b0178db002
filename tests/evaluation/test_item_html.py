"""The page of item retrieval: where edges are drawn, marked items, and nothing from elsewhere."""

import re

import pytest

from raylevance.evaluation.item_html import (
    HEIGHT,
    METRICS,
    WIDTH,
    ItemEdge,
    ItemHtml,
    ListedItem,
    RequestLists,
    drawn_edges,
    render_item_html,
)


@pytest.fixture
def report() -> ItemHtml:
    lists = {"model": [ListedItem("lamp <b>", True), ListedItem("vase", False)], "EASE": [ListedItem("vase", False)]}
    example = RequestLists(
        "request 7, query <red>", ["pot", "and 3 more"], ["lamp <b>"], {"model": 1, "EASE": 0}, lists
    )
    summary = {
        "EASE": {**{name: [0.25, 0.2, 0.3] for name in METRICS if name != "recall_p@50"}, "coverage@50": 0.5},
        "model": {**{name: [0.5, 0.4, 0.6] for name in METRICS}, "coverage@50": 0.625},
    }
    edges = [ItemEdge("click", "vase & co", 2.0), ItemEdge("click", "pot", 0.5), ItemEdge("neighbour", "jug", 9.0)]
    picture = '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "x" "http://www.w3.org/svg.dtd">\n<svg id="drawn"></svg>'
    left_out = {"without a trigger": 3, "without a new item": 4}
    return ItemHtml(
        "A <title>",
        12,
        left_out,
        "2019-06-08 00:00 UTC",
        summary,
        picture,
        {"Where <model> wins": [example]},
        50,
        "cup <c>",
        edges,
    )


def test_edges_are_drawn_apart_with_widths_by_kind(report: ItemHtml) -> None:
    drawn = drawn_edges(report.edges)
    assert [each["name"] for each in drawn] == ["vase & co", "pot", "jug"]
    assert len({(each["x"], each["y"]) for each in drawn}) == 3
    assert all(0 < each["x"] < WIDTH and 0 < each["y"] < HEIGHT for each in drawn)
    assert drawn[0]["colour"] == drawn[1]["colour"] != drawn[2]["colour"]
    assert [each["width"] for each in drawn] == [5.5, 1.8, 5.5]
    assert drawn_edges([]) == []


def test_the_page_marks_chosen_items_and_escapes_names(report: ItemHtml) -> None:
    page = render_item_html(report)
    assert '<li class="chosen">lamp &lt;b&gt; (chosen)</li><li>vase</li>' in page
    assert "A &lt;title&gt;" in page and "query &lt;red&gt;" in page and "Where &lt;model&gt; wins" in page
    assert "cup &lt;c&gt;" in page and "vase &amp; co" in page and "pot; and 3 more" in page
    assert not re.search(r"<(title>A <|b>|red>|model>|c>)", page)
    assert "0.625" in page and page.count("0.250") == len(METRICS) - 1


def test_the_page_holds_its_picture_and_loads_nothing(report: ItemHtml) -> None:
    page = render_item_html(report)
    assert '<svg id="drawn"></svg>' in page and "<?xml" not in page and page.count("<!doctype") == 1
    assert not re.search(r"(src|href)=|https?://", page)


def test_an_item_without_edges_says_so(report: ItemHtml) -> None:
    without = ItemHtml(**{**vars(report), "edges": [], "examples": {}})
    assert "It has no edge." in render_item_html(without)
