"""The application on a Ray of its own (or the cluster at `RAY_ADDRESS`), from the checks before it to a clean end."""

import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve

from raylevance.errors import RaylevanceError
from serve.app import application
from serve.settings import ServeSettings

APPLICATION = "raylevance"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@contextmanager
def running(settings: ServeSettings) -> Iterator[str]:
    """Serve for the block, which gets the URL that answers; requests in flight are answered before it ends.

    Raises `RaylevanceError` where an artifact is missing or damaged, the port is taken, or the cluster is too small.
    """
    searches = application(settings)
    port = free_port(settings.host, settings.port)
    with _connected():
        _check_size(settings)
        with deployed(searches, settings.host, port) as server:
            yield server


@contextmanager
def deployed(searches: serve.Application, host: str, port: int) -> Iterator[str]:
    """As `running`, on the Ray that this process is connected to. Other applications of the cluster stay."""
    serve.start(http_options={"host": host, "port": port})
    try:
        _run(searches)
        yield url(host, port)
    finally:
        serve.delete(APPLICATION)


def free_port(host: str, port: int) -> int:
    """`port` when nothing listens there, any free one for 0. Raises `RaylevanceError` where it can't be had.

    Ray Serve listens with SO_REUSEPORT: without this look it would share a taken port and get half of its requests.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise RaylevanceError(f"can't listen on {host}:{port}: {error.strerror}; choose another --port") from None


def url(host: str, port: int) -> str:
    """Where a client on this machine reaches a server that listens on `host`."""
    reachable = ANY_ADDRESS.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


@contextmanager
def _connected() -> Iterator[None]:
    address = os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    end_by_us = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False, include_dashboard=False)
    except ConnectionError:
        raise RaylevanceError(f"RAY_ADDRESS={address}: no Ray cluster answers there; unset it to serve here") from None
    signal.signal(signal.SIGTERM, end_by_us)  # Ray has put its own in place, which ends with an error
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _check_size(settings: ServeSettings) -> None:
    """Ray would wait for ever for processors that the cluster does not have."""
    needed = settings.replicas * (settings.encoder_cpus + settings.search_cpus)
    present = ray.cluster_resources().get("CPU", 0)
    if needed > present:
        raise RaylevanceError(f"{settings.replicas} replicas need {needed:g} CPUs, the cluster has {present:g}")


def _run(searches: serve.Application) -> None:
    """Deploy, and wait until every replica has loaded. A replica's own one-line error is raised here as it is."""
    try:
        serve.run(searches, name=APPLICATION)
    except RuntimeError as error:
        deployments = serve.status().applications[APPLICATION].deployments.values()
        told = "\n".join([str(error), *(deployment.message for deployment in deployments)])
        reasons = re.findall(r"\braylevance\.errors\.\w+: (.+)", told)
        if not reasons:
            raise
        raise RaylevanceError(reasons[-1]) from None
