"""Measure searches per second over HTTP against FastAPI with sentence-transformers and FAISS, in one run.

    python benchmarks/serving_speed.py --data ../shared/data --clients 1 8 32 128 --seconds 10
    python benchmarks/serving_speed.py --demo 1000000 --shards 2 --folder big --clients 1 8 32

Both serve the ESCI sample with MiniLM and exact search, or with `--demo` so many products of the generated shop, which
ours searches approximately. With `--shards` the index is in so many shards, and `ours, shards` has each in a process of
its own. Each server has the machine to itself, and all get the same queries from the same clients: threads of this
process, each with a connection that it keeps and no pause between requests. Ours runs without its caches, so that
queries which come again do not flatter it; `ours, cached` is a run of its own, in which the frequency of queries falls
with their rank (Zipf). `echo` is a Ray Serve application that parses the same request and answers at once, behind the
same proxy: what is left for a search to be fast in. Memory is that of all processes of a server, with shared pages
counted once.

The plain server is what a user would write: a `def` endpoint, which FastAPI runs in its pool of threads, calls
`SentenceTransformer.encode` and `IndexFlatIP.search`, in one process of uvicorn. It only searches by vectors, so our
mode `dense` is compared with it; the modes `hybrid` and `lexical` and the path `/healthz` are further rows.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from legs import memory

ROOT = Path(__file__).parents[1]
K = 10
COMPARED = 200
"""The queries of which the products found are compared."""
START_TIMEOUT_S = 180
WARM_UP_S = 3.0
INDEX = "index/shop"
SEARCH, HEALTH = "/v1/search", "/healthz"
VECTORS, PRODUCTS, QUERIES = "vectors.npy", "products.json", "queries.json"


class Figures(NamedTuple):
    """Answers per second, the median and two percentiles of the times to an answer, in milliseconds, and failures."""

    qps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int


def prepare(data: Path, demo: int | None, shards: int, folder: Path) -> None:
    """Write our store, the plain server's files with the same vectors, and the queries to `folder`."""
    from raylevance.artifacts import Store
    from raylevance.data.text import baseline_text
    from raylevance.index.products import ProductIndex, ProductIndexSettings
    from raylevance.inference.encoder import backbone_path
    from raylevance.inference.encoding import encode_distinct
    from raylevance.models.encoder import Encoder

    write_tables(data, demo, folder / "tables")
    products, queries = (pq.read_table(folder / "tables" / name) for name in ("products", "queries"))
    if not (folder / VECTORS).exists():
        np.save(folder / VECTORS, encode_distinct(backbone_path("minilm"), baseline_text(products), "item"))
    vectors = np.load(folder / VECTORS)
    store = Store(folder / "store")
    with store.publish("encoder/shop") as encoder:
        Encoder.load(backbone_path("minilm")).save(encoder.path)
    with store.publish("tables/shop") as tables:
        (tables.path / "made-by").write_text(Path(__file__).name)
    settings = ProductIndexSettings(kind="auto" if demo else "exact", shards=shards)
    with store.publish(INDEX, parents=[encoder.ref, tables.ref]) as index:
        ProductIndex.build(products, vectors, settings).save(index.path)
    shown = products.select(["product_id", "title", "brand"]).to_pylist()
    (folder / PRODUCTS).write_text(json.dumps(shown), encoding="utf-8")
    (folder / QUERIES).write_text(json.dumps(queries["query"].unique().to_pylist()), encoding="utf-8")


def write_tables(data: Path, demo: int | None, folder: Path) -> None:
    """Write the tables of the generated shop with `demo` products, or of the ESCI sample in `data`, to `folder`."""
    from raylevance.cluster import connected
    from raylevance.data import import_tables
    from raylevance.data.readers import read_esci
    from raylevance.demo.generating import generate
    from raylevance.demo.settings import DemoSettings

    if demo:
        generate(DemoSettings(products=demo, queries=2000, events=2000), folder)
        return
    with connected():
        import_tables(read_esci(data / "esci"), folder, on_bad_row="quarantine")


def serve_plainly(folder: Path, port: int) -> None:
    """Run the plain server until it is interrupted."""
    import faiss
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from sentence_transformers import SentenceTransformer

    from raylevance.inference.encoder import backbone_path

    model = SentenceTransformer(str(backbone_path("minilm")), device="cpu")
    vectors = np.load(folder / VECTORS)
    products = json.loads((folder / PRODUCTS).read_text(encoding="utf-8"))
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    api = FastAPI()

    class Search(BaseModel):
        query: str
        k: int = K

    @api.post(SEARCH)
    def search(request: Search) -> dict[str, Any]:
        vector = model.encode([request.query], normalize_embeddings=True)
        scores, rows = index.search(vector, request.k)
        ranking = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return {"hits": [{**products[row], "score": score} for row, score in ranking]}

    @api.get(HEALTH)
    def health() -> dict[str, str]:
        return {"status": "ok"}

    uvicorn.run(api, port=port, log_level="warning")


def serve_echo(port: int) -> None:
    """Run the echo until it is interrupted."""
    from fastapi import FastAPI
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from raylevance.client.messages import SearchRequest
    from raylevance.cluster import connected
    from serve.server import deployed  # first: it sets the environment of Ray's proxy

    api = FastAPI()

    @api.post(SEARCH)
    async def echo(request: SearchRequest) -> dict[str, str]:
        return {"query": request.query}

    @api.get(HEALTH)
    def health() -> dict[str, str]:
        return {"status": "ok"}

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
    kept = LoggingConfig(enable_access_log=False)
    answers = serve.deployment(max_ongoing_requests=512, logging_config=kept)(serve.ingress(api)(type("Echo", (), {})))
    with suppress(KeyboardInterrupt), connected(), deployed(answers.bind(), "127.0.0.1", port):
        signal.pause()


@contextmanager
def running(command: list[str]) -> Iterator[tuple[int, int]]:
    """Run a server for the block, and give it the port and the process id once the server answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_up(process, port)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGINT)


def wait_until_up(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until the server answers `/healthz` with 200."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            send(http.client.HTTPConnection("127.0.0.1", port, timeout=5), HEALTH, None)
            return
        except (OSError, http.client.HTTPException, RuntimeError):
            time.sleep(0.2)
    raise SystemExit(f"the server did not start: {process.args!r}")


def send(connection: http.client.HTTPConnection, path: str, body: bytes | None) -> bytes:
    """Send a request, with POST if it has a body, and return the body of its answer. Raises unless that is a 200."""
    headers = {"content-type": "application/json"} if body else {}
    connection.request("POST" if body else "GET", path, body, headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {answer[:200]!r}")
    return answer


def measure(port: int, path: str, bodies: list[bytes | None], clients: int, seconds: float) -> Figures:
    """Let `clients` send requests with `bodies`, in turn, for `seconds`."""
    numbers = count()
    ends = time.perf_counter() + seconds

    errors = count()

    def client(_: int) -> list[float]:
        times, connection = [], http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (started := time.perf_counter()) < ends:
            try:
                send(connection, path, bodies[next(numbers) % len(bodies)])
                times.append(time.perf_counter() - started)
            except (OSError, http.client.HTTPException, RuntimeError):
                next(errors)
                connection.close()
        connection.close()
        return times

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        times = [took for of_client in threads.map(client, range(clients)) for took in of_client]
    took = time.perf_counter() - started
    p50, p95, p99 = (float(value) for value in np.percentile(times, [50, 95, 99]) * 1000)
    return Figures(len(times) / took, p50, p95, p99, next(errors))


def bodies_of(queries: list[str], **fields: str) -> list[bytes | None]:
    """Return the body of a search for each query."""
    return [json.dumps({"query": query, "k": K, **fields}).encode() for query in queries]


def found(port: int, bodies: list[bytes | None]) -> list[set[str]]:
    """Return the ids of the products that each search finds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    answers = [json.loads(send(connection, SEARCH, body)) for body in bodies]
    return [{hit["product_id"] for hit in answer["hits"]} for answer in answers]


def zipf(bodies: list[bytes | None], seed: int = 0) -> list[bytes | None]:
    """Return requests in which the body of rank r is drawn with a probability that falls as 1 / r."""
    ranks = np.random.default_rng(seed).zipf(1.1, 20_000)
    return [bodies[rank % len(bodies)] for rank in ranks]


def race(folder: Path, clients: list[int], seconds: float, shards: int) -> dict[str, Any]:
    """Run the servers, one after the other. Return the figures of each load, and how alike the answers are."""
    queries = json.loads((folder / QUERIES).read_text(encoding="utf-8"))
    modes = {f"ours, {mode}": bodies_of(queries, mode=mode) for mode in ("dense", "hybrid", "lexical")}
    this = [sys.executable, __file__]
    plain = [*this, "--plain", str(folder)]
    ours = [sys.executable, "-m", "serve", "--store", str(folder / "store"), "--index"]
    uncached = ["--set", "cached_vectors=0", "--set", "cached_answers=0"]
    spread = ["--set", f"shard_processes={shards}", "--set", "search_cpus=0.25", "--set", "encoder_cpus=0.25"]
    figures: dict[str, dict[int, Figures]] = {}
    products: dict[str, list[set[str]]] = {}
    memory_mib: dict[str, float] = {}
    servers: list[tuple[list[str], dict[str, list[bytes | None]]]] = [
        ([*this, "--echo"], {"echo": bodies_of(queries)}),
        (plain, {"plain": bodies_of(queries)}),
        ([*ours, INDEX, *uncached], modes),
        ([*ours, INDEX], {"ours, cached": zipf(bodies_of(queries, mode="hybrid"))}),
    ]
    if shards > 1:
        sharded = {name.replace("ours", "ours, shards"): bodies for name, bodies in modes.items()}
        servers.append(([*ours, INDEX, *uncached, *spread], sharded))
    for command, loads in servers:
        with running(command) as (port, pid):
            for name, bodies in loads.items():
                if name in ("plain", "ours, dense", "ours, shards, dense"):
                    products[name] = found(port, bodies[:COMPARED])
                measure(port, SEARCH, bodies, max(clients), WARM_UP_S)
                figures[name] = {number: measure(port, SEARCH, bodies, number, seconds) for number in clients}
                memory_mib[name] = memory(pid)
    alike = {
        name: float(np.mean([len(mine & theirs) / K for mine, theirs in zip(found, products["plain"], strict=True)]))
        for name, found in products.items()
    }
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "figures": {name: {n: by_clients[n]._asdict() for n in clients} for name, by_clients in figures.items()},
        "qps_ratio": {n: figures["ours, dense"][n].qps / figures["plain"][n].qps for n in clients},
        "encode_ms": encoding_ms(queries),
        "same_products": alike,
        "memory_mib": memory_mib,
    }


def encoding_ms(queries: list[str]) -> float:
    """Return the median time to encode one query on one thread, as a replica does it, in milliseconds."""
    import torch

    from raylevance.inference.encoder import backbone_path
    from raylevance.inference.search import read_query_encoder

    torch.set_num_threads(1)
    encoder = read_query_encoder(backbone_path("minilm"))
    times = []
    for query in queries[:50]:
        started = time.perf_counter()
        encoder.encode_queries([query])
        times.append(time.perf_counter() - started)
    return float(np.median(times) * 1000)


def print_report(report: dict[str, Any]) -> None:
    """Print the figures as a table, and our ratio to the plain server."""
    names = ("QPS", "p50 ms", "p95 ms", "p99 ms", "errors")
    print(f"{'server':18}{'clients':>8}" + "".join(f"{name:>9}" for name in names))
    for name, by_clients in report["figures"].items():
        for clients, row in by_clients.items():
            *values, errors = row.values()
            print(f"{name:18}{clients:8}" + "".join(f"{value:9.1f}" for value in values) + f"{errors:9}")
    print(f"one query is encoded in {report['encode_ms']:.1f} ms (median, one thread)")
    for clients, ratio in report["qps_ratio"].items():
        print(
            f"{clients} clients: ours (dense) answers {ratio:.2f} times as many queries per second as the plain server"
        )
    for name, share in report["same_products"].items():
        print(f"{name}: {share:.1%} of the products found are those of the plain server")
    for name, mebibytes in report["memory_mib"].items():
        print(f"{name}: {mebibytes:,.0f} MiB")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--demo", type=int, metavar="PRODUCTS", help="generated products instead of the ESCI sample")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep what is prepared here, and take what is there")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        serve_plainly(options.plain, options.port)
        return
    if options.echo:
        serve_echo(options.port)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = options.folder or Path(temporary)
        if not (folder / QUERIES).exists():
            prepare(options.data, options.demo, options.shards, folder)
        report = race(folder, options.clients, options.seconds, options.shards)
    if options.json:
        print(json.dumps(report))
    else:
        print_report(report)


if __name__ == "__main__":
    main()
