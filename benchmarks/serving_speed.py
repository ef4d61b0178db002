"""Measure searches per second over HTTP against FastAPI with sentence-transformers and FAISS, in one run.

    python benchmarks/serving_speed.py --data ../shared/data --clients 1 32 --seconds 10

Both serve the ESCI sample with MiniLM and exact search, each alone on the machine, and are driven by the same clients
with the same queries: threads of this process, each with one connection that it keeps. Neither server caches answers.

The plain server is what a user would write: a `def` endpoint, which FastAPI runs in its pool of threads, that calls
`SentenceTransformer.encode` and `IndexFlatIP.search`, in one process of uvicorn. It only searches by vectors, so it is
compared with our mode `dense`. Our modes `hybrid` and `lexical` and our `/healthz` are further rows.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
K = 10
START_TIMEOUT_S = 120
PLAIN_FILES = "vectors.npy", "products.json"


class Load(NamedTuple):
    """The load of one measurement: a path, and the body of each request, sent in turn; None sends GET."""

    path: str
    bodies: list[bytes] | None


class Figures(NamedTuple):
    """Answers per second, the median and the 99th percentile of their times in ms, and how many were not 200."""

    qps: float
    p50_ms: float
    p99_ms: float
    errors: int


def prepare(data: Path, folder: Path) -> list[str]:
    """Write our store and the plain server's files, with the same vectors, to `folder`. Return ESCI's queries."""
    import pyarrow as pa

    from raylevance.artifacts import Store
    from raylevance.cluster import connected
    from raylevance.data.readers import read_esci
    from raylevance.data.text import baseline_text
    from raylevance.index.products import ProductIndex, ProductIndexSettings
    from raylevance.inference.encoder import backbone_path
    from raylevance.models.encoder import Encoder

    with connected():
        tables = {
            name: pa.concat_tables(rows.iter_batches(batch_format="pyarrow"))
            for name, rows in read_esci(data / "esci").items()
        }
    products = tables["products"]
    encoder = Encoder.load(backbone_path("minilm"))
    vectors = encoder.encode_items(baseline_text(products))
    store = Store(folder / "store")
    with store.publish("encoder/esci") as encoder_draft:
        encoder.save(encoder_draft.path)
    with store.publish("tables/esci") as tables_draft:
        (tables_draft.path / "made-by").write_text("benchmarks/serving_speed.py")
    with store.publish("index/esci", parents=[encoder_draft.ref, tables_draft.ref]) as index_draft:
        ProductIndex.build(products, vectors, ProductIndexSettings(kind="exact")).save(index_draft.path)
    np.save(folder / PLAIN_FILES[0], vectors)
    shown = products.select(["product_id", "title", "brand"]).to_pylist()
    (folder / PLAIN_FILES[1]).write_text(json.dumps(shown), encoding="utf-8")
    return tables["queries"]["query"].unique().to_pylist()


def serve_plainly(folder: Path, port: int) -> None:
    """Run the plain server until it is interrupted."""
    import faiss
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from sentence_transformers import SentenceTransformer

    from raylevance.inference.encoder import backbone_path

    model = SentenceTransformer(str(backbone_path("minilm")), device="cpu")
    vectors = np.load(folder / PLAIN_FILES[0])
    products = json.loads((folder / PLAIN_FILES[1]).read_text(encoding="utf-8"))
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    api = FastAPI()

    class Search(BaseModel):
        query: str
        k: int = K

    @api.post("/v1/search")
    def search(request: Search) -> dict[str, Any]:
        vector = model.encode([request.query], normalize_embeddings=True)
        scores, rows = index.search(vector, request.k)
        return {
            "hits": [
                {**products[row], "score": score}
                for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True)
            ]
        }

    @api.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    uvicorn.run(api, port=port, log_level="warning")


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Run a server while the block runs, from when it is ready."""
    with subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(process, port)
            yield
        finally:
            process.send_signal(signal.SIGINT)


def wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until `/readyz` answers 200."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if send(http.client.HTTPConnection("127.0.0.1", port), "/readyz", None):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"not ready: {process.args}")


def send(connection: http.client.HTTPConnection, path: str, body: bytes | None) -> bool:
    """Send one request, and return whether its answer is 200."""
    headers = {} if body is None else {"content-type": "application/json"}
    connection.request("GET" if body is None else "POST", path, body, headers)
    response = connection.getresponse()
    response.read()
    return response.status == 200


def measure(port: int, load: Load, clients: int, seconds: float) -> Figures:
    """Let `clients` threads send requests for `seconds`, each the next as soon as the last is answered."""
    numbers, times, errors = count(), [], []
    ends = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (started := time.perf_counter()) < ends:
            body = load.bodies[next(numbers) % len(load.bodies)] if load.bodies else None
            succeeded = send(connection, load.path, body)
            times.append(time.perf_counter() - started)
            errors.append(not succeeded)

    started = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return Figures(len(times) / took, float(p50), float(p99), sum(errors))


def bodies(queries: list[str], **fields: Any) -> list[bytes]:
    """Return the body of a search for each query."""
    return [json.dumps({"query": query, "k": K, **fields}).encode() for query in queries]


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def race(
    folder: Path, queries: list[str], clients: list[int], seconds: float, only: str | None = None
) -> dict[str, dict[int, Figures]]:
    """Run the two servers in turn, and return the figures of each load by number of clients."""
    plain = [sys.executable, __file__, "--plain", str(folder)]
    ours = [sys.executable, "-m", "serve", "--store", str(folder / "store"), "--index", "index/esci"]
    loads = {
        "plain": Load("/v1/search", bodies(queries)),
        **{mode: Load("/v1/search", bodies(queries, mode=mode)) for mode in ("dense", "hybrid", "lexical")},
        "healthz": Load("/healthz", None),
    }
    figures: dict[str, dict[int, Figures]] = {}
    for command, names in ((plain, ["plain"]), (ours, ["dense", "hybrid", "lexical", "healthz"])):
        if only and only not in names:
            continue
        port = free_port()
        with running(command, port):
            for name in names:
                measure(port, loads[name], max(clients), min(seconds, 3))
                figures[name] = {number: measure(port, loads[name], number, seconds) for number in clients}
                print(name, figures[name], flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        serve_plainly(options.plain, options.port)
        return
    folder = options.folder
    folder.mkdir(exist_ok=True)
    q = folder / "queries.json"
    if not q.exists():
        q.write_text(json.dumps(prepare(options.data, folder)))
    print(race(folder, json.loads(q.read_text()), options.clients, options.seconds, options.only))


if __name__ == "__main__":
    main()
