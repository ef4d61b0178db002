"""The outcome of a recipe that makes tables."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from raylevance.artifacts import Artifact
from workloads.readable import readable_rows
from workloads.run import Run


@dataclass(frozen=True)
class TablesOutcome:
    """A tables artifact and its metrics."""

    run: Run
    tables: Artifact

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"artifacts": {artifact.name: artifact.ref for artifact in self.run.made}, **self.tables.metrics}

    def as_table(self) -> Table:
        """Return the place of the tables and their metrics."""
        table = Table("", "", box=None, show_header=False, pad_edge=False)
        for row in readable_rows({"tables": self.run.store.path(self.tables.ref), **self.tables.metrics}):
            table.add_row(*row)
        return table
