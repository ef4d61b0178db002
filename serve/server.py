"""Runs the application on a local Ray, or on the cluster at `RAY_ADDRESS`, from the first checks to a clean end."""

import logging
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ray
from ray import serve
from ray._private.worker import global_worker
from ray.serve.context import _get_global_client

from raylevance.client.messages import Versions
from raylevance.cluster import connected, count_cpus, count_gpus
from raylevance.errors import RaylevanceError
from serve.app import application as build_application
from serve.app import pin_versions
from serve.processes import encoders, replicas, shard_copies
from serve.settings import ServeSettings
from serve.tls import tls_options

APPLICATION = "raylevance"
LOOPBACK_OF_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@contextmanager
def running(settings: ServeSettings) -> Iterator[tuple[str, Versions]]:
    """Serve while the block runs, and give it the URL and the versions that the server starts with.

    Requests in flight are answered before the server stops.

    Raises `RaylevanceError` when an artifact is missing or damaged, the port is taken, or the cluster is too small.
    """
    versions = pin_versions(settings)
    application = build_application(settings, versions)
    port = free_port(settings.host, settings.port)
    with connected():
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        _check_size(settings)
        with deployed(application, settings.host, port, tls_options(settings)) as server:
            yield server, versions


@contextmanager
def deployed(application: serve.Application, host: str, port: int, tls: dict[str, str] | None = None) -> Iterator[str]:
    """Serve `application` on the Ray that this process is connected to while the block runs, and give it the URL.

    `tls` has the certificate and the key to answer over https with. Other applications of the cluster are not touched.
    Raises `RaylevanceError` when Ray Serve already runs on the cluster at another address, or has an application of
    this name.
    """
    options = {"host": host, "port": port, **(tls or {})}
    serve.start(http_options=options)
    _check_address(options)
    _check_name()
    try:
        _run(application)
        yield url(host, port, "https" if tls else "http")
    finally:
        serve.delete(APPLICATION)


def metrics_urls() -> list[str]:
    """Return where Prometheus finds the metrics: an address for each node of the cluster."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["MetricsExportPort"] > 0]
    return [f"{url(node['NodeManagerAddress'], node['MetricsExportPort'])}/metrics" for node in nodes]


def log_folder() -> Path:
    """Return the folder of the logs of Ray Serve on this node, which other nodes have at the same path."""
    assert global_worker.node is not None, "connected"
    return Path(global_worker.node.get_logs_dir_path()) / "serve"


def free_port(host: str, port: int) -> int:
    """Return `port` when nothing listens there; for 0, return a free port.

    Ray Serve listens with SO_REUSEPORT, so without this check it would share a taken port with another server and get
    only some of the requests. Raises `RaylevanceError` when the port is taken or the address is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise RaylevanceError(f"can't listen on {host}:{port}: {error.strerror}; choose another --port") from None


def url(host: str, port: int, scheme: str = "http") -> str:
    """Return the URL at which a client on this machine reaches a server that listens on `host`."""
    reachable = LOOPBACK_OF_ANY_ADDRESS.get(host, host)
    return f"{scheme}://[{reachable}]:{port}" if ":" in reachable else f"{scheme}://{reachable}:{port}"


def _check_address(options: Mapping[str, object]) -> None:
    """Raise where Ray Serve was running with other options: it keeps those, and its address may be open to others."""
    client = _get_global_client()  # Ray has no public way to read the options of a running Serve
    assert client is not None, "started"
    present = client.http_config
    for name, wanted in options.items():
        if getattr(present, name) != wanted:
            raise RaylevanceError(
                f"Ray Serve already runs on this cluster with {name}={getattr(present, name)}, not {wanted}; "
                "end it with `serve shutdown`, or start the server with its options"
            )


def _check_name() -> None:
    """Raise where the cluster has the application already: it would be replaced here, and deleted at the end."""
    if APPLICATION in serve.status().applications:
        raise RaylevanceError(
            f"Ray Serve already runs an application {APPLICATION!r} on this cluster; end it with `serve shutdown`, "
            "which ends all of them, or change it with `serve deploy`"
        )


def _check_size(settings: ServeSettings) -> None:
    """Raise where the processes need more CPUs or GPUs than the cluster has, since Ray would wait for them forever."""
    present = {"cpus": count_cpus(), "gpus": count_gpus()}
    kinds = [replicas(settings), encoders(settings), *[shard_copies(settings)] * settings.shard_processes]
    for kind, count in present.items():
        needed = sum(processes.least * getattr(processes, kind) for processes in kinds)
        if needed > count:
            numbers = dict.fromkeys(f"{processes.name}={processes.least}" for processes in kinds if processes.least)
            if settings.shard_processes:
                numbers[f"shard_processes={settings.shard_processes}"] = None
            raise RaylevanceError(
                f"{', '.join(numbers)} need {needed:g} {kind.upper()[:-1]}s, the cluster has {count}; "
                f"lower them, encoder_{kind} or search_{kind}"
            )


def _run(application: serve.Application) -> None:
    """Deploy, and wait until every replica has loaded.

    The `RaylevanceError` of a replica is raised here with its own message.
    """
    try:
        serve.run(application, name=APPLICATION)
    except RuntimeError as error:
        deployments = serve.status().applications[APPLICATION].deployments.values()
        messages = "\n".join([str(error), *(deployment.message for deployment in deployments)])
        reasons = re.findall(r"\braylevance\.errors\.\w+: (.+)", messages)
        if not reasons:
            raise
        raise RaylevanceError(reasons[-1]) from None
