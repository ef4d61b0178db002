"""Where the records of a run go: a progress bar on the driver, and TensorBoard or MLflow when asked."""

import importlib.util
import os
from pathlib import Path
from typing import Protocol

from ray.experimental import tqdm_ray

from raylevance.errors import RaylevanceError
from raylevance.training.settings import TrainSettings

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}


class Log(Protocol):
    def write(self, step: int, record: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def check_log_package(settings: TrainSettings) -> None:
    """Raises `RaylevanceError` where the package behind `log_to` is not installed."""
    package = PACKAGES.get(settings.log_to)
    if package and importlib.util.find_spec(package) is None:
        raise RaylevanceError(f"log_to={settings.log_to}: {package} is not installed: pip install {package}")


class ProgressBar:
    """A bar that Ray draws on the driver."""

    def __init__(self, total: int, done: int) -> None:
        self._bar = tqdm_ray.tqdm(total=total, desc="training", unit="step")
        self._bar.update(done)
        self._step = done

    def write(self, step: int, record: dict[str, float]) -> None:
        self._bar.set_description(f"training, loss {record['loss']:.4f}")
        self._bar.update(step - self._step)
        self._step = step

    def close(self) -> None:
        self._bar.close()


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

    def __init__(self, folder: Path, name: str, settings: TrainSettings) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}"))
        experiment = self._client.get_experiment_by_name("raylevance")
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment("raylevance")
        self._run = self._client.create_run(experiment_id, run_name=name).info.run_id
        for key, value in settings.model_dump().items():
            self._client.log_param(self._run, key, value)

    def write(self, step: int, record: dict[str, float]) -> None:
        for name, value in record.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


def open_logs(settings: TrainSettings, folder: Path, total: int, done: int) -> list[Log]:
    logs: list[Log] = [ProgressBar(total, done)]
    if settings.log_to == "tensorboard":
        logs.append(TensorBoard(folder / "tensorboard"))
    if settings.log_to == "mlflow":
        logs.append(MLflow(folder, folder.name, settings))
    return logs
