"""Where the records of a run go: a progress bar on the driver, and TensorBoard or MLflow when asked."""

import importlib.util
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from raylevance.errors import RaylevanceError
from raylevance.training.settings import TrainSettings

LATEST = "latest.json"
PACKAGES = {"tensorboard": ("tensorboardX",), "mlflow": ("mlflow", "sqlalchemy")}


class Log(Protocol):
    def write(self, step: int, record: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def check_log_package(settings: TrainSettings) -> None:
    """Raises `RaylevanceError` where the package behind `log_to` is not installed."""
    for package in PACKAGES.get(settings.log_to, ()):
        if importlib.util.find_spec(package) is None:
            raise RaylevanceError(f"log_to={settings.log_to}: {package} is not installed: pip install {package}")


class Latest:
    """The newest record as a JSON file in `folder`, which the driver's progress bar follows."""

    def __init__(self, folder: Path, total: int) -> None:
        self._file, self._total = folder / LATEST, total

    def write(self, step: int, record: dict[str, float]) -> None:
        draft = self._file.with_name(f".{LATEST}.draft")
        draft.write_text(json.dumps({"step": step, "total": self._total, "loss": record["loss"]}), encoding="utf-8")
        draft.replace(self._file)

    def close(self) -> None:
        pass


@contextmanager
def progress_bar(folder: Path) -> Iterator[None]:
    """For the block, a bar on stderr that follows `Latest`: a worker's own output does not reach the driver."""
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder / LATEST, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(file: Path, done: threading.Event) -> None:
    with tqdm(desc="training", unit="step", mininterval=0.5 if sys.stderr.isatty() else 15, delay=1) as bar:
        while True:
            ended = done.wait(0.5)
            if file.exists():
                latest = json.loads(file.read_text(encoding="utf-8"))
                bar.total = latest["total"]
                bar.set_postfix(loss=f"{latest['loss']:.4f}", refresh=False)
                bar.update(latest["step"] - bar.n)
            if ended:
                return


class TensorBoard:
    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, record: dict[str, float]) -> None:
        for name, value in record.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of MLflow at MLFLOW_TRACKING_URI, else in an SQLite file in `folder`."""

    def __init__(self, folder: Path, settings: TrainSettings) -> None:
        from mlflow import MlflowClient

        folder.mkdir(exist_ok=True)
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}"))
        experiment = self._client.get_experiment_by_name("raylevance")
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment("raylevance")
        self._run = self._client.create_run(experiment_id).info.run_id
        for key, value in settings.model_dump().items():
            self._client.log_param(self._run, key, value)

    def write(self, step: int, record: dict[str, float]) -> None:
        for name, value in record.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


def open_logs(settings: TrainSettings, folder: Path, total: int) -> list[Log]:
    logs: list[Log] = [Latest(folder, total)]
    if settings.log_to == "tensorboard":
        logs.append(TensorBoard(folder / "log-tensorboard"))
    if settings.log_to == "mlflow":
        logs.append(MLflow(folder / "log-mlflow", settings))
    return logs
