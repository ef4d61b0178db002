"""What `--help`, `--version` and the tables of results show."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.main import get_command

import raylevance as package
from raylevance.client.messages import Answer
from serve.__main__ import cli as serve_cli
from serve.answer_table import format_answer
from tests.conftest import Ended
from workloads.cli import app
from workloads.readable import readable_rows
from workloads.recipe import RECIPES, find_recipe

Run = Callable[..., Ended]
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(0, 1e6) | st.integers(0, 9) | st.text("abc", min_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3),
    max_leaves=8,
)


def commands(command: Any, name: str = "raylevance") -> Iterator[tuple[str, Any]]:
    """Yield each command below `command` with its name."""
    if hasattr(command, "commands"):
        for each, inner in command.commands.items():
            yield from commands(inner, f"{name} {each}")
    else:
        yield name, command


def rendered(command: Any, capfd: pytest.CaptureFixture[str]) -> str:
    """Return the help of a command as one line of words."""
    with typer.Context(command, info_name="x", terminal_width=400) as context:
        text = command.get_help(context)
    shown = f"{text}{capfd.readouterr().out}"
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", shown).split())


@pytest.mark.parametrize(("name", "command"), [*commands(get_command(app)), ("serve", get_command(serve_cli))])
def test_a_help_shows_what_is_in_brackets(
    name: str, command: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich takes words in brackets for markup, and leaves them out."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 400)
    shown = rendered(command, capfd)
    for parameter in command.params:
        text = (getattr(parameter, "help", None) or "").replace("\\[", "[")
        assert " ".join(text.split()) in shown, (name, parameter.name)
        assert "\\" not in shown


def test_a_help_names_the_recipes_and_settings_of_its_command(raylevance: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for command in ("run", "submit"):
        words = re.findall(r"[\w-]+", raylevance(command, "--help").out)
        assert set(RECIPES) <= set(words)
    words = re.findall(r"[\w-]+", raylevance("tune", "--help").out)
    assert {name for name in RECIPES if hasattr(find_recipe(name), "search_space")} | {"hybrid"} <= set(words)
    index = raylevance("index", "build", "--help").out
    assert "stage1" not in index and "kind=hnsw" in index


def test_the_version(raylevance: Run) -> None:
    assert raylevance("--version") == Ended(0, f"raylevance {package.__version__}\n", "")


@given(st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_table_of_values_has_nothing_of_python_in_it(values: dict[str, Any]) -> None:
    for _, text in readable_rows(values):
        assert not re.search(r"None|True|False|[{}'\"]|\d\.\d{5}", text), text


def test_values_inside_of_values_have_rows_of_their_own() -> None:
    summary = {
        "rows": {"products": 9000, "events": 3},
        "bands": None,
        "agreement": {"kappa": {"low": 1 / 3}},
        "ok": True,
    }
    expected = {
        "rows products": "9000",
        "rows events": "3",
        "bands": "none",
        "agreement kappa low": "0.3333",
        "ok": "yes",
    }
    assert dict(readable_rows(summary)) == expected
    assert dict(readable_rows({"a": [], "b": {}, "c": [[1, 2], [3, 4]], "d": ["x", 0.5]})) == {
        "a": "none",
        "b": "none",
        "c": "[1, 2], [3, 4]",
        "d": "x, 0.5000",
    }


def test_a_hit_without_a_grade() -> None:
    hit = {"product_id": "a", "score": 0.5, "dense_score": None, "lexical_score": 0.5, "grade": None, "title": "mug"}
    versions = dict.fromkeys(("index", "encoder", "tables", "raylevance"), "x@1")
    answer = {"query": "mug", "mode": "lexical", "query_id": "q", "took_ms": 1, "versions": versions}
    full = Answer.model_validate({**answer, "hits": [{**hit, "brand": None, "category": None}]})
    console = Console(width=100)
    with console.capture() as captured:
        console.print(format_answer(full, 1.0))
    assert re.search(r"^ +1 +- +0\.5000 +mug", captured.get(), re.MULTILINE)


@pytest.mark.ray
def test_an_import_says_that_each_query_is_kept(raylevance: Run, ray_cluster: None, esci: Path, tmp_path: Path) -> None:
    """ESCI repeats a query in each of its rows: nothing is lost."""
    ended = raylevance("data", "import", "esci", "--from", esci, "--store", tmp_path / "store")
    assert "2 rows repeat a query (each query is kept once)" in ended.err and "dropped" not in ended.err
    assert re.search(r"queries +2 +an earlier row has the same query; each query is kept once", ended.out)
    examples = esci / "shopping_queries_dataset_examples.parquet"
    table = pq.read_table(examples)
    other = table.set_column(3, "product_locale", pa.array(["us", "us", "es", "es"]))
    pq.write_table(other, examples)
    ended = raylevance("data", "import", "esci", "--from", esci, "--store", tmp_path / "store")
    assert "4 rows dropped, 1 rows repeat a query (each query is kept once)" in ended.err


@pytest.mark.ray
def test_doctor_counts_in_words(raylevance: Run, ray_cluster: None, tmp_path: Path) -> None:
    from raylevance.artifacts import Store
    from workloads.commands.examine_machine import examine

    with Store(tmp_path).publish("encoder/x") as draft:
        (draft.path / "a").write_text("a")
    texts = {finding.subject: finding.text for finding in examine(str(tmp_path))}
    assert texts["store"].endswith(": 1 version of 1 artifact")
