"""`raylevance run` and `raylevance tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raylevance.config import load_settings
from raylevance.errors import UsageError
from raylevance.terminal import quiet, results_console
from workloads.commands.options import (
    DEFAULT_STORE,
    AsJson,
    ConfigFile,
    Fresh,
    Overrides,
    RecipeName,
    StoreRoot,
    print_json,
)
from workloads.recipe import TUNABLE, find_recipe, load_recipe_settings, run_recipe

if TYPE_CHECKING:
    from workloads.recipe import Outcome


@quiet
def run(
    recipe: RecipeName,
    config: ConfigFile = None,
    overrides: Overrides = None,
    store: StoreRoot = DEFAULT_STORE,
    fresh: Fresh = False,
    apply: Annotated[bool, typer.Option("--apply", help="audit: apply all corrections, without a review.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run RECIPE to its end. Steps made before are not made again, and a killed run continues where it stopped."""
    chosen = find_recipe(recipe)
    settings = load_recipe_settings(chosen, config, [*(overrides or []), *(["apply=true"] if apply else [])])
    with results_console() as results:
        outcome = run_recipe(chosen, settings, store, fresh=fresh)
        print_json(results, outcome.as_json()) if as_json else results.print(outcome.as_table())


@quiet
def tune(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(TUNABLE)}, hybrid.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option(help="Settings to try, by default 10; the first are those given.", min=1)
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Search RECIPE's settings on held-out queries or requests, and write the best as YAML that --config takes.

    RECIPE hybrid tunes an index instead: how it joins words and vectors. It publishes the best as an index to serve.
    """
    with results_console() as results:
        outcome: Outcome
        if recipe == "hybrid":
            outcome = _tune_hybrid(config, overrides or [], store, trials)
        else:
            from workloads.studies.tuning import tune_recipe

            outcome = tune_recipe(recipe, config, overrides or [], store, trials or 10)
        print_json(results, outcome.as_json()) if as_json else results.print(outcome.as_table())


def _tune_hybrid(config: Path | None, overrides: list[str], store: str, trials: int | None) -> "Outcome":
    from workloads.studies.hybrid_tuning import HybridTuneSettings, tune_hybrid

    if trials is not None:
        raise UsageError("--trials: tune hybrid compares all of its variants; leave it out")
    return tune_hybrid(load_settings(HybridTuneSettings, config, overrides), store)
