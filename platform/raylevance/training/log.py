"""Logs of a run: a progress bar on the driver, and TensorBoard or MLflow if the settings ask for them."""

import importlib.util
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from raylevance.data.output_file import output_file
from raylevance.errors import RaylevanceError
from raylevance.progress import progress_bar, status
from raylevance.training.settings import MachineSettings, TrainSettings

LATEST, RUN_ID = "latest.json", "run-id"
PACKAGES = {"tensorboard": ("tensorboardX",), "mlflow": ("mlflow", "sqlalchemy")}


class Log(Protocol):
    """A place to which the records of a run are written."""

    def write(self, step: int, record: dict[str, float]) -> None:
        """Write the record of a step: values by name."""

    def close(self) -> None:
        """End the log."""


def check_log_package(machine: MachineSettings) -> None:
    """Raise `RaylevanceError` if the package behind `log_to` is not installed."""
    for package in PACKAGES.get(machine.log_to, ()):
        if importlib.util.find_spec(package) is None:
            raise RaylevanceError(f"machine.log_to={machine.log_to}: {package} is not installed: pip install {package}")


class Latest:
    """The newest record as a JSON file in `folder`, which `training_progress` reads on the driver."""

    def __init__(self, folder: Path, total: int, start: int) -> None:
        """Log a run of `total` steps that begins after step `start`, which has no loss."""
        self._file, self._run = folder / LATEST, {"total": total, "start": start}
        self._replace(start, None)

    def write(self, step: int, record: dict[str, float]) -> None:
        """Replace the file by the record of a step."""
        self._replace(step, record["loss"])

    def _replace(self, step: int, loss: float | None) -> None:
        draft = self._file.with_name(f".{LATEST}.draft")
        draft.write_text(json.dumps({"step": step, "loss": loss, **self._run}), encoding="utf-8")
        draft.replace(self._file)

    def close(self) -> None:
        """Leave the file as it is."""


@contextmanager
def training_progress(folder: Path) -> Iterator[None]:
    """Show a progress bar for the block that follows the `Latest` record of a training in `folder`.

    The record is a file because the output of a training's workers does not reach the driver. One of an earlier
    process is deleted: the training may continue from a checkpoint before it.
    """
    (folder / LATEST).unlink(missing_ok=True)
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder / LATEST, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(file: Path, done: threading.Event) -> None:
    with progress_bar("training", "steps") as bar:
        began = None
        while not done.wait(0.5):
            if not file.exists():
                continue
            latest = json.loads(file.read_text(encoding="utf-8"))
            if latest["start"] != began:
                # A training begins, or continues from the newest checkpoint after a worker has died.
                began = latest["start"]
                bar.restart(latest["total"], began)
                if began:
                    status(f"training: continues from step {began} of {latest['total']}")
            if latest["loss"] is not None:
                bar.update(latest["step"], f"loss {latest['loss']:.4f}")


class TensorBoard:
    """A log of TensorBoard in a folder."""

    def __init__(self, folder: Path, start: int) -> None:
        """Log to `folder`; what an earlier process wrote there about steps after `start` is hidden."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def write(self, step: int, record: dict[str, float]) -> None:
        """Write each value of the record as a scalar."""
        for name, value in record.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left and end the log."""
        self._writer.close()


class MLflow:
    """A run of MLflow at MLFLOW_TRACKING_URI, or in an SQLite file in a folder if that is not set."""

    def __init__(self, folder: Path, settings: TrainSettings, machine: MachineSettings) -> None:
        """Start a run of the experiment "raylevance" and log the settings as its parameters.

        A training that continues writes to the run that it began, whose id is kept in `folder`, unless the server does
        not have it.
        """
        from mlflow import MlflowClient

        folder.mkdir(exist_ok=True)
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}"))
        begun = folder / RUN_ID
        if begun.exists():
            self._run = begun.read_text(encoding="utf-8")
            if self._has(self._run):
                return
            status(f"MLflow: the run {self._run} is not on this server; the training continues in a new one")
        experiment = self._client.get_experiment_by_name("raylevance")
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment("raylevance")
        self._run = self._client.create_run(experiment_id).info.run_id
        for key, value in (settings.model_dump() | machine.model_dump()).items():
            self._client.log_param(self._run, key, value)
        with output_file(begun) as draft:
            draft.write_text(self._run, encoding="utf-8")

    def _has(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run).info.lifecycle_stage) == "active"
        except MlflowException:
            return False

    def write(self, step: int, record: dict[str, float]) -> None:
        """Log each value of the record as a metric."""
        for name, value in record.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def open_logs(settings: TrainSettings, machine: MachineSettings, folder: Path, total: int, start: int) -> list[Log]:
    """Open the logs of a run of `total` steps in its `folder`, of which `start` are done."""
    logs: list[Log] = [Latest(folder, total, start)]
    if machine.log_to == "tensorboard":
        logs.append(TensorBoard(folder / "log-tensorboard", start))
    if machine.log_to == "mlflow":
        logs.append(MLflow(folder / "log-mlflow", settings, machine))
    return logs
