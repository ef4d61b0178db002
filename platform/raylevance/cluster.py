"""Which Ray a command runs on: the cluster it was submitted to, else one of its own on this machine."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data

from raylevance.errors import RaylevanceError


@contextmanager
def connected() -> Iterator[None]:
    """A Ray session for the block: the cluster at `RAY_ADDRESS` (set inside a submitted job), else a local one.

    A local Ray is bound to loopback, has token auth on (Ray's default since 2.59), and ends with the block. A program
    that is connected already keeps its own.
    """
    if ray.is_initialized():
        _size_data_to_cluster()
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local":
        # The watcher waits for machines that are about to be taken away, in a process of its own for each training.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False, include_dashboard=False)
    except ConnectionError:
        raise RaylevanceError(f"RAY_ADDRESS={address}: no Ray cluster answers there; unset it to run here") from None
    _size_data_to_cluster()
    try:
        yield
    finally:
        ray.shutdown()


def _size_data_to_cluster() -> None:
    """Ray Data plans for 200 blocks by default, thousands of tiny tasks on a small cluster, and logs each step."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    blocks = max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))
    context.read_op_min_num_blocks = blocks
    context.default_hash_shuffle_parallelism = blocks
    context.execution_options.preserve_order = True
    # The newer reader waits 2 s and more in its listing, and gives small files to one task (Ray 2.60).
    context.use_datasource_v2 = False
    context.enable_progress_bars = False
    context.print_on_execution_start = False
