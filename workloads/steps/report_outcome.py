"""The outcome of a recipe that ends with a report."""

from dataclasses import dataclass
from typing import Any

from raylevance.artifacts import Artifact
from workloads.run import Run


@dataclass(frozen=True)
class ReportOutcome:
    """A run and its report."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        """Return the references of all artifacts and the figures of the report."""
        return {"artifacts": {artifact.name: artifact.ref for artifact in self.run.made}, **self.report.metrics}
