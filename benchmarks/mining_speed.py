"""Seconds to mine hard negatives: raylevance against sentence-transformers' `mine_hard_negatives`, in one run.

    python benchmarks/mining_speed.py --products 5000 --queries 500 --json

The same work on the generated shop: every product and every query encoded by MiniLM, and the 100 nearest products of
each query found exactly. Each leg is a process of its own; Ray and the model are loaded before the clock. Ours a second
time is what a second round of mining costs, since vectors are kept.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

K = 100


def shop(folder: Path, products: int, queries: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Products, queries and one known positive a query."""
    from raylevance.cluster import connected
    from raylevance.demo import DemoSettings, generate

    if not (folder / "products").is_dir():
        with connected():
            generate(DemoSettings(products=products, queries=queries, events=0), folder)
    tables = {name: pq.read_table(folder / name) for name in ("products", "queries", "judgements")}
    relevant = tables["judgements"].filter(pc.equal(tables["judgements"]["grade"], 2))
    first = relevant.group_by("query_id", use_threads=False).aggregate([("product_id", "first")])
    positives = first.rename_columns(["query_id", "product_id"])
    return tables["products"], tables["queries"], positives


def ours(folder: Path, products: int, queries: int) -> dict[str, float]:
    from raylevance.artifacts import Store
    from raylevance.cluster import connected
    from raylevance.index.sharded_search import search_shards
    from raylevance.index.vectors import IndexSettings
    from raylevance.inference.embeddings import embed_products
    from raylevance.inference.encoding import encode_texts, find_encoder

    catalogue, asked, positives = shop(folder, products, queries)
    store = Store(folder / "store")
    encoder = find_encoder("minilm", store)
    texts = asked.filter(pc.is_in(asked["query_id"], positives["query_id"].combine_chunks()))["query"].to_pylist()
    encode_texts(encoder.path, texts[:8], "query")
    found: dict[str, float] = {}
    with connected():
        for leg in ("seconds", "again"):
            started = time.perf_counter()
            shards = embed_products(store, encoder, folder / "products", rows_per_shard=50_000)
            vectors = encode_texts(encoder.path, texts, "query")
            _, rows = search_shards(shards, vectors, K, IndexSettings(kind="exact"))
            found[leg] = time.perf_counter() - started
    return found | {"mined": int((rows >= 0).sum()), "products": catalogue.num_rows}


def peer(folder: Path, products: int, queries: int) -> dict[str, float]:
    import datasets
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    from raylevance.data.text import baseline_text
    from raylevance.inference.encoding import backbone_path

    catalogue, asked, positives = shop(folder, products, queries)
    corpus = baseline_text(catalogue)
    texts = dict(zip(catalogue["product_id"].to_pylist(), corpus, strict=True))
    queries_by_id = dict(zip(asked["query_id"].to_pylist(), asked["query"].to_pylist(), strict=True))
    rows = positives.to_pylist()
    pairs = datasets.Dataset.from_dict(
        {
            "query": [queries_by_id[row["query_id"]] for row in rows],
            "product": [texts[row["product_id"]] for row in rows],
        }
    )
    model = SentenceTransformer(str(backbone_path("minilm")))
    model.encode(corpus[:8])
    started = time.perf_counter()
    mined = mine_hard_negatives(pairs, model, corpus=corpus, num_negatives=K - 1, range_max=K, use_faiss=True)
    return {"seconds": time.perf_counter() - started, "mined": len(mined), "products": catalogue.num_rows}


def leg(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One leg's figures and the peak memory (PSS, MiB) of its process and all that it started."""
    sizes = ["--products", str(options.products), "--queries", str(options.queries)]
    command = [sys.executable, __file__, "--leg", name, "--folder", str(folder), *sizes]
    peak = 0.0
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.5)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{name} failed")
    return json.loads(text.splitlines()[-1]) | {"peak_mib": peak}


def memory(pid: int) -> float:
    total = 0
    try:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        return 0.0
    return total / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--products", type=int, default=5_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--leg", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.leg:
        run = ours if options.leg == "ours" else peer
        print(json.dumps(run(options.folder, options.products, options.queries)))
        return
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        shop(folder, options.products, options.queries)
        legs = {name: leg(name, folder, options) for name in ("ours", "peer")}
    ratio = legs["peer"]["seconds"] / legs["ours"]["seconds"]
    if options.json:
        print(json.dumps({**legs, "ratio": ratio}))
    else:
        for name, found in legs.items():
            print(f"{name}: {found['seconds']:.1f} s, peak {found['peak_mib']:.0f} MiB")
        print(f"ours again: {legs['ours']['again']:.1f} s; {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
