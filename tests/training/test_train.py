"""The loop under Ray Train: workers, kills, restarts, evaluation, logs and refusals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylevance.models.encoder import Encoder
from raylevance.training.settings import TrainSettings
from raylevance.training.trainer import TrainResult, train
from tests.training.conftest import RAY_DATA_CONTEXT

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings(RAY_DATA_CONTEXT)]

TEXTS = ["red running shoes", "usb charger cable for laptop", "desk lamp"]
BASE = {"epochs": 2, "batch": 7, "learning_rate": 3e-3, "log_every": 1, "cpus_per_worker": 1}


def run(tmp_path: Path, backbone: Path, instances: Path, name: str = "run", **options: Any) -> TrainResult:
    evaluate = options.pop("evaluate", None)
    settings = TrainSettings(**(BASE | options))
    return train(
        backbone, instances, settings, run_dir=tmp_path / name, output=tmp_path / f"{name}-encoder", evaluate=evaluate
    )


def losses(result: TrainResult) -> list[float]:
    return [record["loss"] for record in result.history]


def assert_same_run(one: TrainResult, other: TrainResult, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(losses(one), losses(other), rtol=tolerance)
    vectors = [Encoder.load(result.encoder).encode_items(TEXTS) for result in (one, other)]
    np.testing.assert_allclose(*vectors, atol=tolerance)


@pytest.mark.parametrize(
    "options", [{"loss": "supcon"}, {"loss": "infonce"}, {"loss": "infonce", "gradcache_chunk": 3}]
)
def test_two_workers_train_what_one_trains(
    ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path, options: dict[str, Any]
) -> None:
    """37 instances in batches of 7 leave one of 2: uneven shares. Loss curve and vectors agree to 1e-4."""
    one = run(tmp_path, tiny_backbone, instances_file, "one", workers=1, **options)
    two = run(tmp_path, tiny_backbone, instances_file, "two", workers=2, **options)
    assert one.steps == two.steps == 12
    assert_same_run(one, two)
    assert not np.allclose(
        Encoder.load(tiny_backbone).encode_items(TEXTS), Encoder.load(one.encoder).encode_items(TEXTS)
    )


def test_training_lowers_the_loss(ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path) -> None:
    curve = losses(run(tmp_path, tiny_backbone, instances_file, epochs=8))
    assert np.mean(curve[-6:]) < 0.7 * np.mean(curve[:6])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_does_not_change_the_result(
    ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path, workers: int
) -> None:
    """Rank 0 is killed at step 8 of 12, mid-epoch, once; the newest checkpoint is of step 6."""
    marker = tmp_path / "killed"

    def kill_once(encoder: Encoder) -> dict[str, float]:
        counter = tmp_path / "evaluations"
        with counter.open("a") as file:
            file.write(".")
        if len(counter.read_text()) == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    options: dict[str, Any] = {"checkpoint_every": 3, "evaluate_every": 4, "workers": workers}
    killed = run(tmp_path, tiny_backbone, instances_file, "killed-run", evaluate=kill_once, **options)
    assert marker.exists()
    quiet = run(tmp_path, tiny_backbone, instances_file, "quiet-run", **options)
    assert [record["step"] for record in killed.history] == list(range(1, 13))
    assert_same_run(killed, quiet, tolerance=1e-6)


DRIVER = """
import sys, json
from pathlib import Path
import ray
from raylevance.training.settings import TrainSettings
from raylevance.training.trainer import train

backbone, instances, folder, settings = sys.argv[1:]
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

def stop(encoder):
    import os, signal
    if not Path(folder, "stopped").exists():
        Path(folder, "stopped").touch()
        os.kill({driver}, signal.SIGKILL)
        import time; time.sleep(60)
    return {{}}

train(Path(backbone), Path(instances), TrainSettings(**json.loads(settings)), run_dir=Path(folder, "run"),
      output=Path(folder, "run-encoder"), evaluate=stop)
"""


def test_a_killed_driver_goes_on_where_it_was(
    ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path
) -> None:
    options = BASE | {"checkpoint_every": 3, "evaluate_every": 7}
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(driver="int(Path(folder, 'pid').read_text())"))
    arguments = [str(tiny_backbone), str(instances_file), str(tmp_path), json.dumps(options)]
    launched = (
        "import os, sys; open(sys.argv[3] + '/pid', 'w').write(str(os.getpid())); exec(open(sys.argv.pop(0)).read())"
    )
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.argv[0] = {str(script)!r}\n" + launched.replace("sys.argv[3]", "sys.argv[3]"),
            *arguments,
        ],
        check=False,
        capture_output=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-2000:]
    steps: list[int] = []

    resumed = run(tmp_path, tiny_backbone, instances_file, "run", **options, evaluate=lambda encoder: {})
    del steps
    assert resumed.seconds < 600
    uninterrupted = run(tmp_path, tiny_backbone, instances_file, "whole", **options)
    assert_same_run(resumed, uninterrupted, tolerance=1e-6)
