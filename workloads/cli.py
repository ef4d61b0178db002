"""The `raylevance` command. Exit codes: 0 done, 1 failed with one clear line on stderr, 2 wrong usage.

`--json` prints one JSON object on stdout; everything else a command says goes to stderr.
"""

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from raylevance.errors import RaylevanceError, UsageError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
data = typer.Typer(no_args_is_help=True, help="Import, generate and fetch tables.")
evaluate = typer.Typer(no_args_is_help=True, help="Metrics of an encoder or a scorer on judged queries or pairs.")
index = typer.Typer(no_args_is_help=True, help="Build an index over products.")
store = typer.Typer(no_args_is_help=True, help="Look into the artifact store.")
for name, group in {"data": data, "evaluate": evaluate, "index": index, "store": store}.items():
    app.add_typer(group, name=name)

StoreRoot = Annotated[
    str, typer.Option("--store", envvar="RAYLEVANCE_STORE", help="Folder or URI of the artifact store.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML with settings, on top of the defaults.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, such as stage1.train.batch=16. Repeatable.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Make every step again.")]
EncoderName = Annotated[str, typer.Option("--encoder", help="encoder/NAME[@VERSION], or a Hugging Face path.")]
DEFAULT_STORE = "./store"


@app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(help="mine-and-refine, weak-supervision, judge, ...; see workloads/recipe.py.")
    ],
    config: ConfigFile = None,
    overrides: Overrides = None,
    store: StoreRoot = DEFAULT_STORE,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Run RECIPE to its end. What was made before is not made again; a killed run goes on where it stopped."""
    from workloads.recipe import find_recipe, load_recipe_settings, run_recipe

    chosen = find_recipe(recipe)
    settings = load_recipe_settings(chosen, config, overrides or [])
    with _stdout_for_results() as results:
        outcome = run_recipe(chosen, settings, store, fresh=fresh)
        _print_json(results, outcome.as_json()) if as_json else results.print(outcome.as_table())


@app.command()
def tune(
    recipe: str,
    config: ConfigFile = None,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(help="Settings to try; the first are those given.", min=1)] = 10,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Search RECIPE's settings on held-out training queries, and write the best as YAML that --config takes."""
    from workloads.studies.tuning import tune_recipe

    with _stdout_for_results() as results:
        outcome = tune_recipe(recipe, config, overrides or [], store, trials)
        _print_json(results, outcome.as_json()) if as_json else results.print(outcome.as_table())


@app.command()
def submit(
    recipe: str,
    address: Annotated[str, typer.Option(help="The cluster's dashboard, such as http://127.0.0.1:8265.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    store: StoreRoot = DEFAULT_STORE,
    fresh: Fresh = False,
) -> None:
    """Run RECIPE on a Ray cluster as a job: its logs are followed, its exit code is this command's."""
    from workloads.commands.submit import submit as submit_job
    from workloads.recipe import find_recipe, load_recipe_settings

    settings = load_recipe_settings(find_recipe(recipe), config, overrides or [])
    root = store if "://" in store else str(Path(store).absolute())
    raise typer.Exit(submit_job(address, recipe, settings, root, fresh=fresh))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(context: typer.Context, store: StoreRoot = DEFAULT_STORE) -> None:
    """Answer over HTTP from the store; `python -m serve --help` lists its options (--index, --host, --port, --try)."""
    arguments = [argument for argument in context.args if argument != "--"]
    command = [sys.executable, "-m", "serve", "--store", store, *arguments]
    os.execv(sys.executable, command)


@app.command()
def encode(
    encoder: EncoderName,
    input: Annotated[Path, typer.Option(help="Parquet, CSV or JSONL.")],
    column: Annotated[str, typer.Option(help="The column of texts.")],
    output: Annotated[Path, typer.Option(help=".npy, float32 [rows, dimensions], unit length.")],
    side: Annotated[str, typer.Option(help="query or item: which tower encodes.")] = "item",
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Write the vectors of a column of texts, in its order."""
    from raylevance.inference.encoding import encode_file

    with _stdout_for_results() as results:
        summary = encode_file(encoder, store, input, column, output, side)
        _print_json(results, summary) if as_json else results.print(_table(["", ""], summary.items()))


@app.command()
def label(
    judge: Annotated[str, typer.Option(help="judge/NAME[@VERSION], or a YAML file that describes a judge.")],
    pairs: Annotated[Path, typer.Option(help="Parquet: query, product_text, and any other columns.")],
    output: Annotated[Path, typer.Option(help="The pairs with grade, confidence, status, reason and source.")],
    threshold: Annotated[float | None, typer.Option(help="Abstain below this confidence.", min=0, max=1)] = None,
    check: Annotated[Path | None, typer.Option(help="Pairs with a human grade, to measure the judge on first.")] = None,
    minimum_kappa: Annotated[float | None, typer.Option(help="Label nothing below this quadratic kappa.")] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="Of the machines, to show what labels cost.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Grade pairs. A pair that this judge judged before is not judged again; a killed run goes on where it stopped."""
    from workloads.steps.labelling import label_file

    with _stdout_for_results() as results:
        summary = label_file(
            judge,
            store,
            pairs,
            output,
            threshold=threshold,
            check=check,
            minimum_kappa=minimum_kappa,
            price_per_hour=price_per_hour,
        )
        _print_json(results, summary) if as_json else results.print(_table(["", ""], summary.items()))


@evaluate.command("retrieval")
def evaluate_retrieval(
    encoder: EncoderName,
    examples: Annotated[Path, typer.Option(help="Judged pairs in ESCI's official columns.")],
    products: Annotated[Path, typer.Option(help="Products in ESCI's official columns; all of them are ranked.")],
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Rank every product for each query; dense beside BM25, hybrid, zero-shot and random."""
    from workloads.commands.evaluate import retrieval
    from workloads.steps.systems import REPORTED

    with _stdout_for_results() as results:
        outcome = retrieval(encoder, store, examples, products)
        if as_json:
            return _print_json(results, outcome)
        rows = [
            [system, *(f"{values[metric]:.3f} [{_interval(values['ci95'][metric])}]" for metric in REPORTED)]
            for system, values in outcome.items()
            if isinstance(values, dict)
        ]
        results.print(_table([f"{outcome['queries']} queries", *REPORTED], rows))


@evaluate.command("pairs")
def evaluate_pairs(
    pairs: Annotated[Path, typer.Option(help="Columns query, product_text (or product_id), label 0/1 or grade 0/1/2.")],
    encoder: Annotated[str | None, typer.Option(help="encoder/NAME[@VERSION], or a Hugging Face path.")] = None,
    scorer: Annotated[str | None, typer.Option(help="scorer/NAME[@VERSION], instead of an encoder.")] = None,
    products: Annotated[Path | None, typer.Option(help="Products, where the pairs have a product_id.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """AUC, F1 (and its threshold) and KS of an encoder's cosine, or a scorer's probability, on labelled pairs."""
    from workloads.commands.evaluate import pairs as score_pairs

    with _stdout_for_results() as results:
        outcome = score_pairs(store, pairs, products, encoder=encoder, scorer=scorer)
        _print_json(results, outcome) if as_json else results.print(_table(["", ""], outcome.items()))


@index.command("build")
def index_build(
    encoder: EncoderName,
    products: Annotated[str, typer.Option(help="tables/NAME[@VERSION]; judgements in it give the hits grades.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Encode products and publish index/ENCODER: vectors, BM25, ids and text."""
    from workloads.steps.indexing import build_index

    with _stdout_for_results() as results:
        artifact = build_index(encoder, products, store, config, overrides or [])
        summary = {"ref": artifact.ref, **artifact.metrics}
        _print_json(results, summary) if as_json else results.print(_table(["", ""], summary.items()))


@data.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="esci, wands, ubi, uci or tables.")],
    folder: Annotated[Path, typer.Option("--from", help="Where its files are.")],
    on_bad_row: Annotated[str, typer.Option(help="stop, or quarantine and go on.")] = "stop",
    locale: Annotated[str, typer.Option(help="ESCI only: us, es or jp.")] = "us",
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Read files into checked tables and publish them as tables/SOURCE."""
    from workloads.steps.tables import import_source

    with _stdout_for_results() as results:
        artifact = import_source(source, folder, store, on_bad_row=on_bad_row, locale=locale)
        summary = {"ref": artifact.ref, **artifact.metrics}
        _print_json(results, summary) if as_json else results.print(_table(["", ""], summary.items()))


@data.command("demo")
def data_demo(
    products: int = 5000,
    events: int = 50_000,
    queries: int = 500,
    seed: int = 0,
    locales: Annotated[str, typer.Option(help="Any of us, es and jp, with commas: English, Spanish, Japanese.")] = "us",
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Generate a shop (products, queries, graded judgements, simulated events) and publish it as tables/demo."""
    from raylevance.config import load_settings
    from raylevance.demo import DemoSettings
    from workloads.steps.tables import generate_demo

    sizes = {"products": products, "events": events, "queries": queries, "seed": seed, "locales": f"[{locales}]"}
    settings = load_settings(DemoSettings, None, [f"{name}={value}" for name, value in sizes.items()])
    with _stdout_for_results() as results:
        artifact = generate_demo(store, settings)
        summary = {"ref": artifact.ref, **artifact.metrics}
        _print_json(results, summary) if as_json else results.print(_table(["", ""], summary.items()))


@data.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="esci")],
    to: Annotated[Path, typer.Option(help="The folder to fetch into.")],
) -> None:
    """Fetch a public data set's files, where a network allows."""
    from raylevance.data.download import download

    for path in download(name, to):
        Console(stderr=True).print(str(path))


@store.command("list")
def store_list(store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Every published version, oldest first."""
    from raylevance.artifacts import Store

    versions = Store(store).artifacts()
    if as_json:
        listed = [artifact.model_dump(mode="json", exclude={"files", "settings"}) for artifact in versions]
        return _print_json(Console(), {"store": str(Store(store)), "artifacts": listed})
    rows = [[a.ref, f"{a.created:%Y-%m-%d %H:%M:%S}", _size(sum(f.bytes for f in a.files))] for a in versions]
    Console().print(_table(["artifact", "created (UTC)", "size"], rows))


@store.command("show")
def store_show(reference: str, store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """The manifest of one version, as JSON with `--json` and without: files, hashes, parents, settings, metrics."""
    from raylevance.artifacts import Store

    _print_json(Console(), Store(store).get(reference).model_dump(mode="json"))


@app.command()
def doctor(store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Look at what the work needs on this machine; exit 1 where something is missing."""
    from workloads.commands.doctor import as_json as findings_as_json
    from workloads.commands.doctor import examine

    with _stdout_for_results() as results:
        findings = examine(store)
        rows = [["ok" if finding.ok else "MISSING", finding.subject, finding.text] for finding in findings]
        _print_json(results, findings_as_json(findings)) if as_json else results.print(_table(["", "", ""], rows))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@contextmanager
def _stdout_for_results() -> Iterator[Console]:
    """Keep stdout for the result: what Ray and the libraries print to it goes to stderr until the block ends."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(stdout), "w", encoding="utf-8") as stream, redirect_stdout(sys.stderr):
            yield Console(file=stream, width=None if os.isatty(stdout) else 160)
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _print_json(results: Console, value: Any) -> None:
    """One JSON object, without the colours that a console may be told to use."""
    results.file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _table(columns: list[str], rows: Any) -> Table:
    table = Table(*columns, box=None, show_header=any(columns), pad_edge=False)
    for row in rows:
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
    return table


def _interval(bounds: list[float]) -> str:
    return f"{bounds[0]:.3f}, {bounds[1]:.3f}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def main() -> None:
    """Run the command; a user's mistake is one line on stderr."""
    try:
        app()
    except UsageError as error:
        _fail(error, 2)
    except RaylevanceError as error:
        _fail(error, 1)
    except Exception as error:
        cause = _user_fault(error)
        if cause is None:
            raise
        _fail(cause, 1)


def _user_fault(error: BaseException) -> str | None:
    """The user's fault behind an exception that a Ray worker or a library wrapped, if that is what it is."""
    seen: BaseException | None = error
    while seen is not None:
        full = isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(seen):  # Ray keeps a worker's error as text
            return "the disk is full; free some space and run the same command"
        if isinstance(seen, RaylevanceError) and "\n" not in str(seen):
            return str(seen)
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def _fail(error: object, code: int) -> None:
    line = " ".join(str(error).split())
    sys.stderr.write(f"raylevance: {line}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
