"""The README's commands run, and the files and links that it names exist."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.conftest import Ended

Command = Callable[..., Ended]
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = re.compile(
    " (submit|tune|classify|recommend|evaluate (pairs|classification)|data (download|import (tables|alibaba|ubi))) "
    "| serve( |$)| bundle rollback | index/weak| encoder/weak | run "
    "(cross-validation|ablations|learning-curves|annotators|audit|pairs-to-judge|synthetic-queries|knowledge|weak-supervision|"
    "weak-ablations|query-classification|classification-ablations|classification-folds|item-retrieval|item-ablations)"
)
"""Commands that other tests run: on clusters, data and servers, and of recipes with fewer folds and a smaller judge."""

CITATION = re.compile(r"Source:|our choice|our reading|arXiv")
"""The words by which a docstring gives the source of a formula."""


def commands() -> list[str]:
    """Return every `raylevance ...` of the README, in its order."""
    return list(dict.fromkeys(re.findall(r"`(raylevance [^`]+)`", README)))


def links() -> Iterator[str]:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                yield f"{document.name}: {target}"


def test_every_link_and_named_file_exists() -> None:
    assert list(links()) == []
    named = re.findall(r"`((?:platform|workloads|serve|docs|benchmarks)/[^`]*)`", README)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert len(named) > 8


def test_a_row_whose_formula_is_from_a_paper_names_a_file_that_cites_it() -> None:
    uncited = []
    for part, files, source in re.findall(r"^\| (.+?) \| (`platform/.+?) \| (.+?) \|$", README, re.MULTILINE):
        texts = [(ROOT / file).read_text(encoding="utf-8") for file in re.findall(r"`([^`]+)`", files)]
        if not source.startswith("ours") and not any(CITATION.search(text) for text in texts):
            uncited.append(part)
    assert uncited == []


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^make (\S+)", README, re.MULTILINE)
    assert targets == ["run", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, public_data: Path, small_recipe: Path, small_store: Path
) -> Path:
    """A folder with the files that the README's commands name, the small recipe, and the store that it filled."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(small_recipe, folder)
    shutil.copytree(small_store, folder / "store")
    examples = pq.read_table(public_data / "esci" / "shopping_queries_dataset_examples.parquet")
    products = pq.read_table(public_data / "esci" / "shopping_queries_dataset_products.parquet").slice(0, 400)
    examples = examples.filter(pc.is_in(examples["product_id"], products["product_id"].combine_chunks()))
    (folder / "DIR").mkdir()
    for name in ("E.parquet", "DIR/shopping_queries_dataset_examples.parquet"):
        pq.write_table(examples, folder / name)
    for name in ("P.parquet", "DIR/shopping_queries_dataset_products.parquet"):
        pq.write_table(products, folder / name)
    pq.write_table(pa.table({"title": products["product_title"].slice(0, 50)}), folder / "F.parquet")
    pairs = {"query": ["wireless earbuds"] * 50, "product_text": products["product_title"].slice(0, 50)}
    pq.write_table(pa.table(pairs), folder / "pairs.parquet")
    return folder


def runnable(command: str) -> list[str]:
    """Return the arguments of the command, shortened: the small recipe, 400 products of ESCI, a shop of 500 products.

    The judge of so few pairs needs no gate: `label` asks it.
    """
    arguments = shlex.split(command)[1:]
    if arguments[:2] == ["run", "judge"]:
        small = ("data.source=esci", "data.folder=DIR", "gate.minimum_kappa=-1", "gate.minimum_gain=-1")
        arguments += [word for setting in small for word in ("--set", setting)]
    elif arguments[0] == "run":
        arguments += ["--config", "small.yaml"]
    if arguments[:2] == ["data", "demo"]:
        arguments[2:6] = ["--products", "500", "--events", "1000"]
    return arguments


def run_here() -> list[object]:
    """Return the commands that run here. Those that train again take minutes."""
    here = [command for command in commands() if not ELSEWHERE.search(command)]
    return [pytest.param(name, marks=pytest.mark.long if " --set " in name else []) for name in here]


@pytest.mark.ray
@pytest.mark.parametrize("command", run_here())
def test_a_command_of_the_readme_runs(
    command: str,
    workspace: Path,
    public_data: Path,
    ray_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The commands run in their order, on one store, from a folder in which Ray's workers do not start."""
    from workloads.cli import main

    monkeypatch.chdir(workspace)
    monkeypatch.setenv("RAYLEVANCE_DATA", str(public_data))
    monkeypatch.setattr(sys, "argv", ["raylevance", *runnable(command)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    printed = capfd.readouterr()
    assert not exit_info.value.code, printed.err[-3000:]
    assert printed.out.strip(), "no output"


@pytest.mark.long
@pytest.mark.ray
def test_the_judge_of_the_readme_passes_its_gate(
    raylevance: Command, public_data: Path, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLEVANCE_DATA", str(public_data))
    ended = raylevance("run", "judge", "--store", tmp_path, "--json")
    assert ended.code == 0, ended.err[-3000:]
    assert "judge/relevance" in json.loads(ended.out)["artifacts"]


def test_submit_is_described_with_options_it_has() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "workloads.cli", "submit", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    submit = next(command for command in commands() if " submit " in command)
    for option in re.findall(r"--[a-z]+", submit):
        assert option in help_text
