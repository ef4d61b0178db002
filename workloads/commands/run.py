"""`raylevance run` and `raylevance tune`."""

from typing import Annotated

import typer

from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, ConfigFile, Fresh, Overrides, StoreRoot, print_json


@quiet
def run(
    recipe: Annotated[
        str, typer.Argument(help="mine-and-refine, weak-supervision, judge, ...; see workloads/recipe.py.")
    ],
    config: ConfigFile = None,
    overrides: Overrides = None,
    store: StoreRoot = DEFAULT_STORE,
    fresh: Fresh = False,
    apply: Annotated[bool, typer.Option("--apply", help="audit: apply all corrections, without a review.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run RECIPE to its end. Steps made before are not made again, and a killed run continues where it stopped."""
    from workloads.recipe import find_recipe, load_recipe_settings, run_recipe

    chosen = find_recipe(recipe)
    settings = load_recipe_settings(chosen, config, [*(overrides or []), *(["apply=true"] if apply else [])])
    with results_console() as results:
        outcome = run_recipe(chosen, settings, store, fresh=fresh)
        print_json(results, outcome.as_json()) if as_json else results.print(outcome.as_table())


@quiet
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

    with results_console() as results:
        outcome = tune_recipe(recipe, config, overrides or [], store, trials)
        print_json(results, outcome.as_json()) if as_json else results.print(outcome.as_table())
