"""`raylevance submit`."""

from pathlib import Path
from typing import Annotated

import typer

from raylevance.errors import UsageError
from raylevance.terminal import quiet
from workloads.commands.options import DEFAULT_STORE, ConfigFile, Fresh, Overrides, RecipeName, StoreRoot


@quiet
def submit(
    recipe: RecipeName,
    address: Annotated[str, typer.Option(help="The cluster's dashboard, such as http://127.0.0.1:8265.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    store: StoreRoot = DEFAULT_STORE,
    fresh: Fresh = False,
) -> None:
    """Run RECIPE as a job on a Ray cluster, show its logs, and exit with its exit code."""
    from workloads.commands.submit_job import submit_job
    from workloads.recipe import find_recipe, load_recipe_settings

    settings = load_recipe_settings(find_recipe(recipe), config, overrides or [])
    if recipe == "audit" and not (settings.model_dump()["apply"] or "review" in settings.model_fields_set):
        raise UsageError("submit audit: set review to a file that you and the cluster see, or apply=true")
    root = store if "://" in store else str(Path(store).absolute())
    raise typer.Exit(submit_job(address, recipe, settings, root, fresh=fresh))
