"""Runs the application on a local Ray, or on the cluster at `RAY_ADDRESS`, from the first checks to a clean end."""

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve

from raylevance.client.messages import Versions
from raylevance.cluster import connected, count_cpus, count_gpus
from raylevance.errors import RaylevanceError
from serve.app import application as build_application
from serve.app import pin_versions
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
    """
    serve.start(http_options={"host": host, "port": port, **(tls or {})})
    try:
        _run(application)
        yield url(host, port, "https" if tls else "http")
    finally:
        serve.delete(APPLICATION)


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


def _check_size(settings: ServeSettings) -> None:
    """Raise where the replicas need more CPUs or GPUs than the cluster has, since Ray would wait for them forever."""
    present = {"cpus": count_cpus(), "gpus": count_gpus()}
    for kind, count in present.items():
        encoders = settings.encoders or settings.replicas
        needed = encoders * getattr(settings, f"encoder_{kind}") + settings.replicas * getattr(
            settings, f"search_{kind}"
        )
        if needed > count:
            raise RaylevanceError(
                f"replicas={settings.replicas} need {needed:g} {kind.upper()[:-1]}s, the cluster has {count}; "
                f"lower replicas, encoder_{kind} or search_{kind}"
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
