"""Connect to Ray, count what the cluster can give, and say what does not fit on it or is not seen by all its nodes."""

import json
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylevance.errors import RaylevanceError

T = TypeVar("T")
SHARED_VARIABLES = (
    "RAYLEVANCE_DATA",
    "RAYLEVANCE_PRECISION",
    "RAYLEVANCE_LLM",
    "HF_HUB_OFFLINE",
    "MLFLOW_TRACKING_URI",
)
"""The environment variables of a command that its workers on a cluster read too."""
UNSET = {"RAYLEVANCE_PRECISION": "auto", "RAYLEVANCE_LLM": ""}
"""Values of variables that decide a result, where the command does not set them: a node's own value is not read."""
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of a submitted job: the job's settings, whose variables its workers have already."""
VISIBLE_WITHIN_S = 10.0
"""Seconds that a network mount may take to show a new file."""
WORKER_NICENESS = 0
"""The niceness of the worker processes of a Ray of our own; see docs/decisions/0008-worker-niceness.md."""


@contextmanager
def connected() -> Iterator[None]:
    """Connect to Ray for the block: to the cluster at `RAY_ADDRESS`, else to a Ray of our own on this machine.

    `RAY_ADDRESS` is set inside of a submitted job. The workers of a cluster get the `SHARED_VARIABLES` that are set
    here; others are those of their node. A Ray of our own requires a token (Ray's default since 2.59) and ends
    with the block. It listens on loopback only if `workloads` or `serve` is imported before Ray, as the commands do.
    A program that is connected already keeps its connection.

    Raises `RaylevanceError` where no cluster answers at `RAY_ADDRESS`.
    """
    if ray.is_initialized():
        _configure_ray_data()
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", str(WORKER_NICENESS))
        # The watcher waits for machines that are about to be taken away, in a process of its own for each training.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    try:
        with _sigterm_handler_kept():
            ray.init(
                address=address,
                runtime_env=None if address == "local" else {"env_vars": _variables_for_workers()},
                logging_level=logging.WARNING,
                log_to_driver=False,
                include_dashboard=False,
            )
    except ConnectionError:
        raise RaylevanceError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there; unset it to work on this machine alone"
        ) from None
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        raise RaylevanceError("Ray did not start in time, as on a busy machine; run the command again") from None
    _configure_ray_data()
    try:
        yield
    finally:
        ray.shutdown()


def shared_variables() -> dict[str, str]:
    """Return those of `SHARED_VARIABLES` that are set, and `UNSET`.

    The path of the data and of a model's folder is absolute. A tracking URI that names a file is left out, since the
    file would be on the disk of a worker; MLflow's records then go to the run's folder.
    """
    found = UNSET | {name: os.environ[name] for name in SHARED_VARIABLES if name in os.environ}
    if not found.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://")):
        found.pop("MLFLOW_TRACKING_URI", None)
    for name in ("RAYLEVANCE_DATA", "RAYLEVANCE_LLM"):
        if name in found and (name == "RAYLEVANCE_DATA" or Path(found[name]).is_dir()):
            found[name] = str(Path(found[name]).absolute())
    return found


def _variables_for_workers() -> dict[str, str]:
    """Return `shared_variables` without those that the job of this process sets, which Ray refuses to set again."""
    job = json.loads(os.environ.get(JOB, "{}")).get("runtime_env") or {}
    of_job = (job if isinstance(job, dict) else json.loads(job)).get("env_vars", {})
    return {name: value for name, value in shared_variables().items() if name not in of_job}


def check_shared_folder(folder: Path, name: str) -> None:
    """Raise `RaylevanceError` if a node of the cluster does not see `folder`, which the message calls `name`.

    Such a node would write its part of the data to its own disk, where no other finds it.
    """
    if len(alive_nodes()) < 2:
        return
    marker = folder / f".seen-by-all-{uuid.uuid4().hex}"
    marker.touch()
    try:
        without = nodes_without(marker)
    finally:
        marker.unlink()
    if without:
        raise RaylevanceError(f"{name}: not visible on {', '.join(without)}; put it on a mount that all nodes share")


def nodes_without(file: Path) -> list[str]:
    """Return the addresses of the nodes that do not see `file` within `VISIBLE_WITHIN_S`, ascending."""

    def sees(path: str, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    remote = ray.remote(num_cpus=0)(sees)
    asked = [
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            str(file), VISIBLE_WITHIN_S
        )
        for node in nodes
    ]
    seen = ray.get(asked)
    return sorted({address for address, found in zip(nodes.values(), seen, strict=True) if not found})


def run_in_thread(function: Callable[[], T]) -> T:
    """Call `function` in another thread and return its result, so that Ctrl-C still raises `KeyboardInterrupt` here.

    In the main thread, `TorchTrainer.fit` replaces the handler of Ctrl-C and leaves its own behind (Ray 2.60).
    """
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    # A daemon, because after Ctrl-C nothing waits for it: it ends with the connection to Ray.
    threading.Thread(target=call, daemon=True).start()
    return future.result()


def alive_nodes() -> list[dict[str, float]]:
    """Return the resources of each node that is alive, such as {"CPU": 8.0, "GPU": 1.0}."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def count_cpus() -> int:
    """Return the number of CPUs of the whole cluster."""
    return int(ray.cluster_resources().get("CPU", 0))


def count_gpus() -> int:
    """Return the number of GPUs of the whole cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def cpus_per_node() -> int:
    """Return the mean number of CPUs of a node, at least 1."""
    return max(1, count_cpus() // len(alive_nodes()))


def actor_pool_size(tasks: int) -> int:
    """Return how many actors should share `tasks`: one for each GPU, or for each CPU where there is no GPU."""
    return max(1, min(count_gpus() or count_cpus(), tasks))


def check_room(setting: str, count: int, *, cpus: float = 0, gpus: float = 0, one_per_node: bool = False) -> None:
    """Check that `count` processes, each with these CPUs and GPUs, fit on the cluster's nodes.

    `setting` is the name of the setting that asks for them; `one_per_node` allows one process on each node.

    Raises `RaylevanceError` where they do not fit, because Ray would wait for more nodes for ever.
    """
    room = count_room(alive_nodes(), cpus=cpus, gpus=gpus, one_per_node=one_per_node)
    if room < count:
        needs = [f"{number:g} {name}" for number, name in ((cpus, "CPU"), (gpus, "GPU")) if number]
        each = "a machine" if one_per_node else " and ".join(needs)
        raise RaylevanceError(
            f"{setting}={count} with {each} each: the cluster has room for {room}; lower {setting} or add nodes"
        )


def count_room(nodes: list[dict[str, float]], *, cpus: float = 0, gpus: float = 0, one_per_node: bool = False) -> int:
    """Return how many processes with these CPUs and GPUs fit on nodes with these resources at the same time."""
    needs = {"CPU": cpus, "GPU": gpus}
    rooms = (min(int(node.get(name, 0) // number) for name, number in needs.items() if number) for node in nodes)
    return sum(min(room, 1) if one_per_node else room for room in rooms)


@contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Keep our handler of SIGTERM, where there is one: Ray sets its own, which ends the process with an error."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _configure_ray_data() -> None:
    """Size Ray Data's plans to the cluster: 200 blocks, its default, are thousands of tiny tasks on a small one."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    blocks = max(4, 2 * count_cpus())
    context.read_op_min_num_blocks = blocks
    context.default_hash_shuffle_parallelism = blocks
    context.execution_options.preserve_order = True
    # The newer reader waits 2 s and more in its listing, and gives small files to one task (Ray 2.60).
    context.use_datasource_v2 = False
    # Encoding one shard or starting an engine may take longer than Ray's limit of 30 minutes, and so may waiting.
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
