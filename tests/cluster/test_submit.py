"""A recipe as a job of a Ray cluster with token auth on, and the cluster file that starts one."""

import json
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp
import httpx
import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.job_submission import JobDetails, JobStatus, JobType

from raylevance.artifacts import Artifact, Store
from raylevance.cluster import SHARED_VARIABLES
from raylevance.config import Settings, load_settings
from raylevance.errors import RaylevanceError
from tests.conftest import Ended
from workloads.commands import submit_job

ROOT = Path(__file__).parents[2]


@dataclass
class Head:
    address: str
    """The URL of its dashboard."""
    gcs: str
    """What RAY_ADDRESS takes."""
    environment: dict[str, str]


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A Ray head of its own, on ports of its own, with a token."""
    ours = ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    gcs, dashboard = free_port(), free_port()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
        *(
            f"--port={gcs}",
            "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--ray-client-server-port={free_port()}",
        ),
        *("--disable-usage-stats", "--object-store-memory=500000000"),
    ]
    # A folder of pytest's is too deep: the path of a socket below it may exceed the 107 bytes that Linux allows.
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile("w+") as printed,
        subprocess.Popen([*command, "--temp-dir", folder], env=environment, stdout=printed, stderr=printed) as ray,
    ):
        try:
            url = f"http://127.0.0.1:{dashboard}"
            wait_for_node(ray, url, environment["RAY_AUTH_TOKEN"], printed)
            yield Head(url, f"127.0.0.1:{gcs}", environment)
        finally:
            ray.terminate()


def wait_for_node(ray: subprocess.Popen[bytes], url: str, token: str, printed: IO[str]) -> None:
    """Wait until the head's node has registered, which its dashboard reports; the dashboard answers before that."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and ray.poll() is None:
        with suppress(httpx.TransportError):
            nodes = httpx.get(f"{url}/nodes?view=summary", headers={"Authorization": f"Bearer {token}"})
            if "ALIVE" in nodes.text:
                return
        time.sleep(0.5)
    printed.seek(0)
    pytest.fail(f"the Ray head did not start: {printed.read()[-3000:]}")


def in_a_process(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workloads.cli", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, text=True, capture_output=True, check=False)


def contents(artifact: Artifact) -> dict[str, str]:
    return {file.path: file.sha256 for file in artifact.files}


@pytest.mark.long
@pytest.mark.ray
def test_a_submitted_recipe_publishes_what_a_local_one_does(
    head: Head, small_recipe: Path, small_store: Path, tmp_path: Path
) -> None:
    remote = in_a_process(
        *("submit", "mine-and-refine", "--address", head.address, "--store", str(tmp_path)),
        *("--config", str(small_recipe)),
        environment=head.environment,
    )
    assert remote.returncode == 0, remote.stderr[-3000:]
    assert "index/stage2" in remote.stderr, "the job's log is followed"

    submitted, here = Store(tmp_path), Store(small_store)
    assert submitted.names() == here.names()
    for name in here.names():
        assert contents(submitted.get(name)) == contents(here.get(name)), name


@pytest.mark.long
@pytest.mark.ray
def test_a_failing_job_gives_its_exit_code(head: Head, tmp_path: Path) -> None:
    missing = ["--set", "data.source=esci", "--set", f"data.folder={tmp_path}/nowhere"]
    done = in_a_process(
        *("submit", "mine-and-refine", "--address", head.address, "--store", str(tmp_path / "store"), *missing),
        environment=head.environment,
    )
    assert done.returncode == 1
    assert "nowhere" in done.stderr


WORKERS_SEE = """
import json, os
import ray
from raylevance.cluster import SHARED_VARIABLES, connected

with connected():
    seen = ray.remote(lambda: {name: os.environ.get(name) for name in SHARED_VARIABLES})
    print(json.dumps(ray.get(seen.remote())))
"""


@pytest.mark.ray
def test_workers_of_a_running_cluster_see_the_variables_of_the_command(head: Head, tmp_path: Path) -> None:
    own = {"RAYLEVANCE_DATA": "some/data", "RAYLEVANCE_PRECISION": "bf16", "RAYLEVANCE_LLM": "models/judge"}
    unset = {name: value for name, value in head.environment.items() if name not in SHARED_VARIABLES}
    environment = {**unset, **own, "RAY_ADDRESS": head.gcs, "PYTHONPATH": str(ROOT / "platform")}
    done = subprocess.run(
        [sys.executable, "-c", WORKERS_SEE],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    of_node = {name: head.environment.get(name) for name in SHARED_VARIABLES}
    expected = {**of_node, **own, "RAYLEVANCE_DATA": str(tmp_path / "some" / "data")}
    assert json.loads(done.stdout.splitlines()[-1]) == expected


@pytest.mark.ray
def test_a_cluster_that_wants_a_token_says_so(head: Head, tmp_path: Path) -> None:
    without = {name: value for name, value in head.environment.items() if not name.startswith("RAY_AUTH")}
    without |= {"RAY_AUTH_MODE": "disabled"}
    done = in_a_process("submit", "mine-and-refine", "--address", head.address, environment=without)
    assert done.returncode == 1
    assert done.stderr.startswith("raylevance: ") and "RAY_AUTH_TOKEN" in done.stderr


def test_an_address_where_nothing_answers(raylevance: Callable[..., Ended]) -> None:
    ended = raylevance("submit", "mine-and-refine", "--address", f"http://127.0.0.1:{free_port()}")
    assert ended.code == 1
    assert "no Ray dashboard answers there" in ended.err.splitlines()[-1]


def test_an_audit_as_a_job_needs_a_file_that_people_see(raylevance: Callable[..., Ended]) -> None:
    ended = raylevance("submit", "audit", "--address", f"http://127.0.0.1:{free_port()}")
    assert ended.code == 2
    assert "submit audit: set review to a file that you and the cluster see, or apply=true" in ended.err


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with files in data/ at its root and in the package of that name."""
    folder = tmp_path / "checkout"
    for name in ("pyproject.toml", "data/log.csv", "platform/raylevance/data/text.py", "tests/test_it.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.setattr(submit_job, "CHECKOUT", folder)
    return folder


def grow(file: Path, mebibytes: int) -> None:
    """Make `file` so large, without taking disk space."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.truncate(mebibytes * 2**20)


def submit(raylevance: Callable[..., Ended]) -> str:
    """Return the last line of a submission to a cluster that is not there."""
    ended = raylevance("submit", "mine-and-refine", "--address", f"http://127.0.0.1:{free_port()}")
    assert ended.code == 1
    return ended.err.splitlines()[-1]


def test_data_stays_at_home_and_the_package_of_that_name_travels(
    checkout: Path, raylevance: Callable[..., Ended], tmp_path: Path
) -> None:
    grow(checkout / "data" / "events.parquet", 600)
    grow(checkout / "store" / "encoder.bin", 600)
    assert "no Ray dashboard answers there" in submit(raylevance), "the size of data/ and store/ does not matter"
    environment = submit_job._runtime_env()
    package = tmp_path / "package.zip"
    excludes = environment["excludes"]
    (checkout / "data" / "events.parquet").unlink()
    (checkout / "store" / "encoder.bin").unlink()
    create_package(environment["working_dir"], package, include_gitignore=True, excludes=excludes)
    files = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert files == {"pyproject.toml", "platform/raylevance/data/text.py"}


@pytest.mark.parametrize("name", ["models/big.safetensors", "platform/raylevance/data/dump.csv", "events.parquet"])
def test_the_folder_that_makes_a_checkout_too_large_is_named(
    checkout: Path, raylevance: Callable[..., Ended], name: str
) -> None:
    grow(checkout / name, 700)
    (checkout / "notes").mkdir()
    grow(checkout / "notes" / "scan.pdf", 20)
    line = submit(raylevance)
    assert "too large to send with the job: 720 MiB" in line and f"of which {name} has 700 MiB" in line
    (checkout / ".rayignore").write_text(f"/{name}\n")
    assert "no Ray dashboard answers there" in submit(raylevance)


def test_many_files_are_named_by_their_folder(checkout: Path, raylevance: Callable[..., Ended]) -> None:
    for part in range(9):
        grow(checkout / "runs" / "may" / f"{part}.parquet", 90)
    assert "of which runs/may has 810 MiB" in submit(raylevance)


def test_the_settings_are_checked_before_anything_is_sent(raylevance: Callable[..., Ended]) -> None:
    ended = raylevance("submit", "mine-and-refine", "--address", "http://127.0.0.1:1", "--set", "sead=3")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "did you mean 'seed'?" in ended.err


class ScriptedClient:
    """Answers as Ray's client of a job that runs, whose logs end as `ends` says."""

    def __init__(self, ends: Exception | None, status: JobStatus) -> None:
        self.ends, self.status = ends, status

    def submit_job(self, **_: object) -> str:
        return "job1"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield f"{job} says\n"
        if self.ends:
            raise self.ends

    def get_job_info(self, _: str) -> JobDetails:
        return JobDetails(type=JobType.SUBMISSION, entrypoint="run", status=self.status, driver_exit_code=3)


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        (None, "the connection was closed"),
        (aiohttp.ClientConnectionError("reset by peer"), "reset by peer"),
        (OSError("refused"), "refused"),  # as the errors of requests
        (RuntimeError("close code 1006"), "close code 1006"),
    ],
)
def test_logs_that_break_off_are_no_end_of_the_job(
    monkeypatch: pytest.MonkeyPatch, ends: Exception | None, reason: str
) -> None:
    monkeypatch.setattr(submit_job, "JobSubmissionClient", lambda _: ScriptedClient(ends, JobStatus.RUNNING))
    expected = f"the logs of job1 broke off ({reason}); the job goes on: ray job logs job1"
    with pytest.raises(RaylevanceError, match=f"^{re.escape(expected)}$"):
        submit_job.submit_job("http://head", "mine-and-refine", Settings(), "store")


def test_a_job_that_ended_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_job, "JobSubmissionClient", lambda _: ScriptedClient(None, JobStatus.FAILED))
    assert submit_job.submit_job("http://head", "mine-and-refine", Settings(), "store") == 3


class Named(Settings):
    name: str = ""


@pytest.mark.parametrize("name", ["lamp 🦊", "1000", "a\u2028b\x85\x7f\ufeff", '"\\ud83d\\ude00"', "白い"])
def test_a_setting_of_a_job_is_the_text_that_was_given(name: str) -> None:
    command = shlex.split(submit_job._entrypoint("mine-and-refine", Named(name=name), "store", fresh=False))
    override = command[command.index("--set") + 1]
    assert load_settings(Named, overrides=[override]).name == name


def test_cluster_yaml_follows_rays_schema() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    assert list(jsonschema.validators.validator_for(schema)(schema).iter_errors(cluster)) == []
