"""Measure the seconds to mine hard negatives against sentence-transformers' `mine_hard_negatives`, in one run.

    python benchmarks/mining_speed.py --products 5000 --queries 500 --json

Both do the same work on the generated shop: they encode every product and every query with MiniLM, and find the 100
nearest products of each query by exact search. Each runs in a process of its own, and loads Ray and the model before
the clock starts. We mine twice: the second time shows what another round costs once the vectors are stored.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from legs import run_leg

K = 100


def shop(folder: Path, products: int, queries: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return the products, the queries, and one relevant product for each query (`query_id`, `product_id`)."""
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
    """Mine twice with raylevance. Return the seconds of both times and the numbers of mined pairs and products."""
    from raylevance.artifacts import Store
    from raylevance.cluster import connected
    from raylevance.index.sharded_search import search_shards
    from raylevance.index.vectors import IndexSettings
    from raylevance.inference.embeddings import embed_products
    from raylevance.inference.encoder import load as load_encoder
    from raylevance.inference.encoding import encode_texts

    catalogue, query_table, positives = shop(folder, products, queries)
    store = Store(folder / "store")
    encoder = load_encoder(store, "minilm")
    with_positive = pc.is_in(query_table["query_id"], positives["query_id"].combine_chunks())
    texts = query_table.filter(with_positive)["query"].to_pylist()
    encode_texts(encoder.path, texts[:8], "query")
    seconds: dict[str, float] = {}
    with connected():
        for turn in ("seconds", "again"):
            started = time.perf_counter()
            shards = embed_products(store, encoder, folder / "products", rows_per_shard=50_000)
            vectors = encode_texts(encoder.path, texts, "query")
            _, rows = search_shards(shards, vectors, K, IndexSettings(kind="exact"))
            seconds[turn] = time.perf_counter() - started
    return seconds | {"mined": int((rows >= 0).sum()), "products": catalogue.num_rows}


def peer(folder: Path, products: int, queries: int) -> dict[str, float]:
    """Mine with `mine_hard_negatives`. Return the seconds and the numbers of mined pairs and products."""
    import datasets
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    from raylevance.data.text import baseline_text
    from raylevance.inference.encoder import backbone_path

    catalogue, query_table, positives = shop(folder, products, queries)
    corpus = baseline_text(catalogue)
    texts = dict(zip(catalogue["product_id"].to_pylist(), corpus, strict=True))
    queries_by_id = dict(zip(query_table["query_id"].to_pylist(), query_table["query"].to_pylist(), strict=True))
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


def main() -> None:
    """Measure, and print the figures."""
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
        sizes = ["--products", str(options.products), "--queries", str(options.queries)]
        command = [sys.executable, __file__, "--folder", root, *sizes, "--leg"]
        legs = {name: run_leg([*command, name]) for name in ("ours", "peer")}
    ratio = legs["peer"]["seconds"] / legs["ours"]["seconds"]
    if options.json:
        print(json.dumps({**legs, "ratio": ratio}))
    else:
        for name, figures in legs.items():
            print(f"{name}: {figures['seconds']:.1f} s, peak {figures['peak_mib']:.0f} MiB")
        print(f"ours again: {legs['ours']['again']:.1f} s; {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
