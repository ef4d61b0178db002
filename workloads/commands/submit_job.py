"""Run a recipe as a job of a Ray cluster, follow its logs and return its exit code."""

import asyncio
import json
import logging
import re
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE, _dir_travel, _get_excludes
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from raylevance.cluster import shared_variables
from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.progress import status, write

CHECKOUT = Path(__file__).parents[2]
CACHES = [".mypy_cache", ".ruff_cache", ".pytest_cache"]
STAYS_HERE = ["/data", ".venv", "store", "/tests", "/docs", "/benchmarks", *CACHES]
"""What of a checkout is not sent, in the format of a .gitignore. Its own .gitignore and .rayignore are followed too."""
NO_AGENT = "No available agent"
STARTING_S = 60


def submit_job(address: str, recipe: str, settings: Settings, store: str, *, fresh: bool = False) -> int:
    """Run `recipe` on the cluster at `address` (its dashboard's URL) and return the job's exit code.

    A checkout travels with the job, without `STAYS_HERE`; an installed wheel is expected on the cluster's nodes.
    `store`, and the data that the settings name, must be at a path that every node sees.

    Raises `RaylevanceError` if the checkout is too large to send, or if the cluster does not answer or refuses the
    token.
    """
    environment = _runtime_env()
    client = _connect(address)
    command = _entrypoint(recipe, settings, store, fresh)
    job = _submit(client, address, entrypoint=command, runtime_env=environment, metadata={"recipe": recipe})
    status(f"{job}: submitted to {address}; `ray job stop {job}` ends it")
    info = _followed(client, job)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    status(f"{job}: {info.status.value.lower()}: {_one_line(info.message or '')}")
    return info.driver_exit_code or 1


def _connect(address: str) -> JobSubmissionClient:
    try:
        return JobSubmissionClient(address)
    except ConnectionError:
        raise RaylevanceError(f"{address}: no Ray dashboard answers there (ray start --head prints its URL)") from None
    except AuthenticationError:
        raise RaylevanceError(f"{address}: wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN") from None
    except RuntimeError as error:
        raise RaylevanceError(f"{address}: the cluster refused: {_one_line(error)}") from None


def _submit(client: JobSubmissionClient, address: str, **job: Any) -> str:
    """Submit the job, retrying: a head node that has just started takes jobs some seconds after it answers."""
    deadline = time.monotonic() + STARTING_S
    while True:
        try:
            submitted: str = client.submit_job(**job)
            return submitted
        except RuntimeError as error:
            if NO_AGENT not in str(error) or time.monotonic() > deadline:
                raise RaylevanceError(f"{address}: the job was not taken: {_one_line(error)}") from None
        except OSError as error:
            raise RaylevanceError(
                f"{address}: the connection broke off ({_one_line(error)}); `ray job list` says whether it has the job"
            ) from None
        time.sleep(1)


def _entrypoint(recipe: str, settings: Settings, store: str, fresh: bool) -> str:
    """Return the command of the job. Validated settings are passed as values, since their file stays here."""
    # The job's own output is its log: nothing is kept from it in a file on the cluster.
    command = ["python", "-m", "workloads.cli", "--verbose", "run", recipe, "--store", store]
    for name, value in settings.model_dump(mode="json", exclude_unset=True).items():
        command += ["--set", f"{name}={_yaml(value)}"]
    return shlex.join([*command, *(["--fresh"] if fresh else [])])


def _yaml(value: Any) -> str:
    """Return `value` as YAML in one line: as JSON, but for characters above U+FFFF, of which JSON escapes make two."""
    return re.sub("[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _runtime_env() -> dict[str, Any]:
    logging.getLogger("ray._private.runtime_env").setLevel(logging.ERROR)
    env = shared_variables()
    if not (CHECKOUT / "pyproject.toml").exists():
        return {"env_vars": env}
    _check_upload(CHECKOUT)
    if (CHECKOUT / "data").exists():
        status(f"{CHECKOUT / 'data'} stays here: the job reads data at paths that the cluster's nodes see")
    return {"working_dir": str(CHECKOUT), "excludes": STAYS_HERE, "env_vars": {"PYTHONPATH": "platform", **env}}


def _check_upload(checkout: Path) -> None:
    """Raise `RaylevanceError` if the files to send are larger than Ray's limit, and name the folder that makes them so.

    Ray would compress them all first, which takes minutes, and then name none.
    """
    sizes: Counter[Path] = Counter()

    def count(path: Path) -> None:
        if path.is_file():
            name = path.relative_to(checkout)
            for folder in (name, *name.parents):
                sizes[folder] += path.stat().st_size

    # Ray's own walk, so that what is counted is what would be sent.
    excludes = [_get_excludes(checkout, [*get_runtime_env_default_excludes(), *STAYS_HERE])]
    _dir_travel(checkout, excludes, count, include_gitignore=True)
    total = sizes.pop(Path("."), 0)
    if total <= GCS_STORAGE_MAX_SIZE:
        return
    large = [path for path, size in sizes.items() if 2 * size > total] or [max(sizes, key=lambda path: sizes[path])]
    largest = max(large, key=lambda path: len(path.parts))
    raise RaylevanceError(
        f"{checkout}: too large to send with the job: {_mib(total)}, of which {largest} has {_mib(sizes[largest])}; "
        f"Ray takes {_mib(GCS_STORAGE_MAX_SIZE)}. Move {largest} out of the checkout, or name it in a .rayignore"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _followed(client: JobSubmissionClient, job: str) -> JobDetails:
    """Print the logs of the job until it ends, and return what became of it.

    Raises `RaylevanceError` where the connection ends before the job, as when the dashboard starts again.
    """
    reason: object = "the connection was closed"
    try:
        asyncio.run(_follow(client, job))
        info = client.get_job_info(job)
        if info.status.is_terminal():
            return info
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        reason = error
    raise RaylevanceError(f"the logs of {job} broke off ({_one_line(reason)}); the job goes on: ray job logs {job}")


async def _follow(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        write(lines)


def _one_line(error: object) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"
