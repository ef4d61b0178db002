"""A user's mistake is one line that names it; nothing is half written; the exit code is 1, or 2 for wrong usage."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import typer
from typer.main import get_command

from raylevance.artifacts import Store
from raylevance.errors import MADE_BY, UsageError
from tests.conftest import Ended
from tests.recipes.conftest import EXAMPLES, PRODUCTS
from workloads.cli import app
from workloads.recipe import RECIPES
from workloads.steps.retrieval_data import SyntheticSource

Command = Callable[..., Ended]
EXAMPLES_FILE = "shopping_queries_dataset_examples.parquet"
PRODUCTS_FILE = "shopping_queries_dataset_products.parquet"


def assert_one_line(ended: Ended, code: int, message: str) -> None:
    line = ended.err.strip().splitlines()[-1]
    assert (ended.code, ended.out) == (code, ""), ended
    assert line.startswith("raylevance: ") and re.search(message, line), line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run mine-and-refin", "unknown recipe 'mine-and-refin'; did you mean 'mine-and-refine'"),
        ("run mine-and-refine --set stage1.trian.batch=8", "unknown setting 'stage1.trian'; did you mean 'stage1"),
        ("run mine-and-refine --set stage1.train.batch=none", r"'stage1.train.batch': .* got 'none'"),
        ("run mine-and-refine --set seed", "--set seed: expected key=value"),
        ("run mine-and-refine --config nowhere.yaml", "nowhere.yaml: no such settings file"),
        ("submit mine-and-refin --address http://127.0.0.1:1", "unknown recipe"),
        ("data import esc --from .", "unknown source 'esc'; did you mean 'esci'"),
        ("data import esci --from . --on-bad-row skip", "--on-bad-row skip: expected stop or quarantine"),
        ("data import wands --from . --locale es", "--locale es: only esci has locales to choose from"),
        ("data demo --products 0", "'products': .* got 0"),
        ("data demo --seed -1", "'seed': .* got -1"),
        ("run mine-and-refine --set seed=-1", "'seed': .* got -1"),
        (
            "run item-retrieval --set data.folder=x",
            "folder=.*x: source=demo reads no files; set source to their format",
        ),
        ("run mine-and-refine --set data.source=tables/x --set data.folder=x", "source=tables/x reads no files"),
        ("run ablations --set stage1.train.accumulate=2", "variant 'in-batch negatives': .* leave it out"),
        ("encode --encoder x --input f.parquet --column t --output f.txt", "f.txt: expected a name that ends in .npy"),
        ("encode --encoder x --input f.parquet --column t --output f.npy --side both", "expected query or item"),
        ("index build --encoder minilm --products tables/x --name index/x@1", "index/x@1: expected NAME or index/NAME"),
        ("index build --encoder minilm --products tables/x --name encoder/x", "encoder/x: expected NAME or index/NAME"),
        ("evaluate pairs --pairs f.parquet", "give either --encoder or --scorer"),
        ("index build --encoder encoder/x --products P.parquet", "expected tables/NAME"),
        ("run cross-validation --set mining.judge=judge/x", "judge/x: it learned from queries that a fold tests on"),
        ("run cross-validation --set synthetic.tables=tables/x", "tables/x: made with queries that a fold tests on"),
        ("run cross-validation --set warmup.synthetic=tables/x", "tables/x: made with queries that a fold tests on"),
        ("store show stage1", "'stage1' is not a reference"),
    ],
)
def test_wrong_usage(raylevance: Command, tmp_path: Path, arguments: str, message: str) -> None:
    store = tmp_path / "store"
    assert_one_line(raylevance(*arguments.split(), "--store", store), 2, message)
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "store show encoder/stage2",
            r"encoder/stage2: no such artifact in \S+; make one with `raylevance run mine-and-",
        ),
        ("encode --encoder encoder/x --input f.parquet --column t --output f.npy", "encoder/x: no such artifact"),
        ("encode --encoder minilm --input f.parquet --column t --output f.npy", "f.parquet: no such file"),
        ("encode --encoder ./nowhere --input {esci}/P --column t --output f.npy", "P: unknown kind of file"),
        ("data import esci --from nowhere", "nowhere: no such folder"),
        ("data import wands --from {esci}", "query.csv"),
        ("index build --encoder encoder/x --products tables/x", "encoder/x: no such artifact"),
        ("run mine-and-refine --set data.source=esci --set data.folder=nowhere", "nowhere: no such folder of data"),
        ("run mine-and-refine --set data.source=demo --set mining.judge=judge/typo", "judge/typo: no such artifact"),
        ("run ablations --set mining.unjudged=skip --set mining.judge=judge/typo", "judge/typo: no such artifact"),
    ],
)
def test_what_is_not_there(raylevance: Command, esci: Path, tmp_path: Path, arguments: str, message: str) -> None:
    arguments = arguments.format(esci=esci)
    code = 2 if "unknown kind" in message else 1
    assert_one_line(raylevance(*arguments.split(), "--store", tmp_path / "store"), code, message)


EARLY = """
import sys
for name in ("ray", "torch", "transformers"):
    sys.modules[name] = None  # importing it fails
from workloads.cli import app
for line in sys.stdin:
    try:
        app(line.split())
    except SystemExit as end:
        print(end.code, flush=True)
"""


def test_simple_mistakes_wait_for_no_library(esci: Path, tmp_path: Path) -> None:
    """Ray, torch and transformers take up to half a minute to import."""
    store, examples, pairs = tmp_path / "store", esci / EXAMPLES_FILE, tmp_path / "pairs.parquet"
    pairs.write_bytes(b"PAR1")
    label = f"label --output {tmp_path}/o.parquet --store {store}"
    grade = f"label --judge zero-shot --pairs {pairs}"
    encode = f"encode --column t --store {store}"
    mistakes = {
        f"{encode} --encoder encoder/x --input {examples} --output {tmp_path}/o.npy": "encoder/x: no such artifact",
        f"{encode} --encoder minilm --input {tmp_path}/f.csv --output {tmp_path}/o.npy": "f.csv: no such file",
        f"{encode} --encoder minilm --input {examples} --output {tmp_path}/no/o.npy": "no/o.npy: no such folder",
        f"{encode} --encoder minilm --input {examples} --output o.txt": "o.txt: expected a name that ends in .npy",
        f"index build --encoder minilm --products tables/x --store {store}": "tables/x: no such artifact",
        f"index build --encoder encoder/x --products tables/x --store {store}": "encoder/x: no such artifact",
        f"{label} --judge judge/x --pairs {pairs}": "judge/x: no such artifact",
        f"{label} --judge zero-shot --pairs {tmp_path}/f.parquet": "f.parquet: no such file",
        f"{label} --judge zero-shot --pairs {pairs} --check {tmp_path}/c.parquet": "c.parquet: no such file",
        f"{grade} --output {pairs}": "pairs.parquet: is the file of --pairs",
        f"{grade} --output {tmp_path}/o.csv": "o.csv: expected a name that ends in .parquet",
        f"evaluate pairs --scorer scorer/x --pairs {pairs} --store {store}": "scorer/x: no such artifact",
        f"evaluate pairs --encoder minilm --pairs {pairs} --validation {tmp_path}/v.csv": "v.csv: no such file",
        f"evaluate retrieval --encoder minilm --examples {tmp_path}/e.csv --products {pairs}": "e.csv: no such file",
        f"evaluate retrieval --encoder encoder/x --examples {examples} --products {pairs} --store {store}": "encoder/x",
        "run --help": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", EARLY], input="\n".join(mistakes), capture_output=True, text=True, check=False
    )
    lines = done.stderr.strip().splitlines()
    for message, line in zip(filter(None, mistakes.values()), lines, strict=True):
        assert line.startswith("raylevance: ") and message in line, line


@pytest.mark.parametrize(
    ("pairs", "check", "message"),
    [
        ({"query": ["a"], "product_txt": ["b"]}, None, "pairs.parquet: has no column 'product_text'; did you mean"),
        ({"query": ["a"], "product_text": ["b"]}, {"query": ["a"]}, "check.*no column 'product_text', 'grade'; its"),
        ({"query": ["a"], "product_text": ["b"]}, {"query": ["a"], "product_text": ["b"], "grade": [7]}, "grade is 7"),
    ],
)
def test_labelling_checks_its_files_before_ray_starts(
    raylevance: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: Any, check: Any, message: str
) -> None:
    from workloads.commands import label_file

    monkeypatch.setattr(label_file, "connected", lambda: pytest.fail("Ray is started"))
    pq.write_table(pa.table(pairs), tmp_path / "pairs.parquet")
    options: list[object] = ["--pairs", tmp_path / "pairs.parquet", "--output", tmp_path / "o.parquet"]
    if check:
        pq.write_table(pa.table(check), tmp_path / "check.parquet")
        options += ["--check", tmp_path / "check.parquet"]
    ended = raylevance("label", "--judge", "zero-shot", *options, "--store", tmp_path / "store")
    assert_one_line(ended, 1, message)


def test_the_commands_that_make_artifacts_exist() -> None:
    for command in MADE_BY.values():
        context = typer.Context(get_command(app))
        first, second = command.split(maxsplit=1)
        if first in ("run", "tune"):
            assert second in RECIPES or command == "tune hybrid"
            continue
        group = get_command(app).get_command(context, first)  # type: ignore[attr-defined]
        assert group.get_command(context, second.split()[0]) is not None, command


def evaluate(raylevance: Command, esci: Path, encoder: object = "minilm") -> Ended:
    files = ("--examples", esci / EXAMPLES_FILE, "--products", esci / PRODUCTS_FILE)
    return raylevance("evaluate", "retrieval", "--encoder", encoder, *files, "--json", "--store", esci / "store")


def test_files_that_evaluation_can_not_read(raylevance: Command, esci: Path) -> None:
    examples = esci / EXAMPLES_FILE
    pq.write_table(EXAMPLES.rename_columns({"esci_label": "esci_lable"}), examples)
    assert_one_line(evaluate(raylevance, esci), 1, "no column 'esci_label'; did you mean 'esci_lable'")
    pq.write_table(EXAMPLES.set_column(4, "esci_label", pa.array(["E", "I", "X", "C"])), examples)
    assert_one_line(evaluate(raylevance, esci), 1, "row 3: label 'X' is not one of E, S, C, I")
    one_id = EXAMPLES.set_column(1, "query_id", pa.array(["7"] * 4)).set_column(
        0, "query", pa.array(["a b", "A  b", "c", "d"])
    )
    pq.write_table(one_id, examples)
    assert_one_line(evaluate(raylevance, esci), 1, "row 3: query_id 7 is 'c' here and 'a b' in a row above")
    for place, name, values in (
        (0, "query_id", ["7", None, "8", "9"]),
        (1, "query", ["a", "b", "", "d"]),
        (2, "product_id", ["", "p", "q", "r"]),
    ):
        assert EXAMPLES.column_names[place] == name
        pq.write_table(EXAMPLES.set_column(place, name, pa.array(values, pa.string())), examples)
        row = values.index("" if "" in values else None) + 1
        assert_one_line(evaluate(raylevance, esci), 1, f"row {row}: {name} is missing")
    pq.write_table(EXAMPLES.set_column(2, "product_id", pa.array(list("wxyz"))), examples)
    assert_one_line(
        evaluate(raylevance, esci), 1, f"{PRODUCTS_FILE}: has none of the products that .* judges: 'w@us', 'x@us'"
    )
    pq.write_table(EXAMPLES.slice(0, 0), examples)
    assert_one_line(evaluate(raylevance, esci), 1, f"{EXAMPLES_FILE}: has no rows")
    examples.write_bytes(b"PAR1 and no more")
    assert_one_line(evaluate(raylevance, esci), 1, f"{EXAMPLES_FILE}: can't be read, it may be incomplete")


def test_an_encoder_that_is_not_there(raylevance: Command, esci: Path, tmp_path: Path) -> None:
    assert_one_line(evaluate(raylevance, esci, tmp_path / "nowhere"), 1, "nowhere: no such folder")
    (tmp_path / "empty").mkdir()
    assert_one_line(evaluate(raylevance, esci, tmp_path / "empty"), 1, "empty: not a readable encoder folder")


def test_a_damaged_artifact(raylevance: Command, esci: Path, minilm: Path) -> None:
    store = Store(esci / "store")
    with store.publish("encoder/x") as draft:
        shutil.copytree(minilm, draft.path, dirs_exist_ok=True)
    weights = next(store.path(draft.ref).rglob("*.safetensors"))
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    assert_one_line(evaluate(raylevance, esci, "encoder/x"), 1, rf"{weights.name}.*damaged")


def recipe(raylevance: Command, esci: Path, *options: str) -> Ended:
    settings = ("--set", "data.source=esci", "--set", f"data.folder={esci}")
    return raylevance("run", "mine-and-refine", "--store", esci.parent / "store", *settings, *options)


@pytest.mark.ray
def test_a_recipe_that_can_not_end_well_does_not_start(raylevance: Command, ray_cluster: None, esci: Path) -> None:
    """Before the tables are imported."""
    backbone = ("--set", "encoder.backbone=./nowhere")
    assert_one_line(recipe(raylevance, esci, *backbone), 1, "nowhere: no such folder, and no encoder")
    evaluate = ("--set", "warmup.train.evaluate_every=25")
    assert_one_line(recipe(raylevance, esci, *evaluate), 1, "this training has nothing to evaluate on")
    workers = ("--set", "machine.workers=64")
    assert_one_line(recipe(raylevance, esci, *workers), 1, "workers=64 with 1 CPU each: the cluster has room for 2")
    tokens = ("--set", "encoder.max_item_tokens=1024")
    assert_one_line(recipe(raylevance, esci, *tokens), 1, "reads 512 tokens at most, got a limit of 1024")
    best = ("--set", "stage1.train.keep_best=mrr")
    assert_one_line(recipe(raylevance, esci, *best), 2, "stage1.train.keep_best=mrr: the recipe measures ndcg@10")
    loss = ("--set", "warmup.train.loss=supcon")
    assert_one_line(recipe(raylevance, esci, *loss), 2, "warmup.train.loss=supcon: a pseudo-query has one product")
    assert Store(esci.parent / "store").names() == []


def test_synthetic_queries_that_are_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.publish("tables/uci") as draft:
        (draft.path / "events").mkdir()
        (draft.path / "events" / "part.parquet").touch()
    with pytest.raises(UsageError, match=r"synthetic\.tables=tables/uci: has no judged queries"):
        SyntheticSource(tables="tables/uci").check(store)


@pytest.mark.ray
def test_a_query_in_train_and_test(raylevance: Command, ray_cluster: None, esci: Path) -> None:
    same = pa.array(["kettle", "kettle", " KETTLE ", " KETTLE "])
    pq.write_table(EXAMPLES.set_column(1, "query", same), esci / EXAMPLES_FILE)
    assert_one_line(recipe(raylevance, esci), 1, "leakage: 1 of 1 test queries are judged in training too")


@pytest.mark.ray
def test_an_empty_split(raylevance: Command, ray_cluster: None, esci: Path) -> None:
    pq.write_table(EXAMPLES.filter(pc.equal(EXAMPLES["split"], "train")), esci / EXAMPLES_FILE)
    assert_one_line(recipe(raylevance, esci), 1, "split 'test' is empty")


@pytest.mark.ray
def test_a_bad_row_stops_the_import(raylevance: Command, ray_cluster: None, esci: Path) -> None:
    titles = pa.array(["red kettle", None, "garden hose"])
    pq.write_table(PRODUCTS.set_column(1, "product_title", titles), esci / PRODUCTS_FILE)
    store = esci.parent / "store"
    ended = raylevance("data", "import", "esci", "--from", esci, "--store", store)
    assert_one_line(ended, 1, rf"{PRODUCTS_FILE}.*row .*title")
    assert Store(store).names() == []
    ended = raylevance("data", "import", "esci", "--from", esci, "--store", store, "--on-bad-row", "quarantine")
    assert ended.code == 0, ended.err
    assert Store(store).names() == ["tables/esci"]


@pytest.mark.long
def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 300 kB of its own, where the machine lets a user mount one."""
    mount = f"mount -t tmpfs -o size=300k tmpfs {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    demo = f"{sys.executable} -m workloads.cli data demo --products 5000 --store {tmp_path}"
    shell = f"{mount} && {demo}; code=$?; find {tmp_path} -name manifest.json; exit $code"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", shell], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("raylevance: the disk is full; free some space and run the same command (log: ")


def test_cross_validation_refuses_a_judge_that_was_fitted(raylevance: Command, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "fitted.yaml").write_text(f"backend: regression\nregression: {tmp_path / 'model'}\n")
    judge = f"mining.judge={tmp_path / 'fitted.yaml'}"
    ended = raylevance("run", "cross-validation", "--set", judge, "--store", tmp_path / "store")
    assert_one_line(ended, 2, "fitted.yaml: it learned from queries that a fold tests on")
