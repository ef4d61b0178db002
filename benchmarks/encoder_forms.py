"""Compare forms of the query encoder: the nDCG@10 of the queries that each encodes, and how long it takes.

    python benchmarks/encoder_forms.py --data ../shared/data

The catalogue of the ESCI sample is encoded once, in float32 by MiniLM. Each form then encodes the 100 judged queries
(none is trained or tuned on), and the nearest products are graded. `int8` is PyTorch's dynamic quantisation of the
linear layers, `openvino` OpenVINO in its own choice of format, where the package is installed. Times are of one thread:
the lower quartile of 20 batches of 1, 8 and 32 queries, in milliseconds.
"""

import argparse
import copy
import importlib.util
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAYLEVANCE_PRECISION"] = "fp32"  # the vectors of the catalogue, and the form float32

import numpy as np
import torch

from raylevance.cluster import connected
from raylevance.data import import_tables
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.readers import read_esci
from raylevance.data.text import baseline_text
from raylevance.evaluation.intervals import paired_difference
from raylevance.evaluation.ranking_metrics import evaluate_run
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.encoder import backbone_path
from raylevance.models.encoder import Encoder, Vectors
from raylevance.models.precision import PRECISION_VARIABLE, prepare_for_inference
from workloads.steps.systems import as_run, rank_dense

Encode = Callable[[list[str]], Vectors]
BATCHES, SIZES = 20, (1, 8, 32)


def forms(encoder: Encoder) -> dict[str, Encode]:
    """Return each form of `encoder`, which encodes queries in float32."""
    found: dict[str, Encode] = {"float32": encoder.encode_queries, "bfloat16": bfloat16(copy.deepcopy(encoder))}
    quantised = copy.deepcopy(encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised.query_tower = torch.ao.quantization.quantize_dynamic(quantised.query_tower, {torch.nn.Linear})
    found["int8"] = quantised.encode_queries
    if importlib.util.find_spec("openvino"):
        found["openvino"] = with_openvino(encoder, importlib.import_module("openvino"))
    return found


def bfloat16(encoder: Encoder) -> Encode:
    """Return the form that a server uses on a processor with bfloat16."""

    def encode(queries: list[str]) -> Vectors:
        os.environ[PRECISION_VARIABLE] = "auto"
        try:
            return encoder.encode_queries(queries)
        finally:
            os.environ[PRECISION_VARIABLE] = "fp32"

    os.environ[PRECISION_VARIABLE] = "auto"
    prepare_for_inference(encoder)
    os.environ[PRECISION_VARIABLE] = "fp32"
    return encode


def with_openvino(encoder: Encoder, openvino: Any) -> Encode:
    """Return `encoder` compiled by OpenVINO, with mean pooling as MiniLM's."""
    tokenize = encoder.tokenize.tokenizer
    words = tokenize(["wireless earbuds", "lamp"], padding=True, return_tensors="pt")
    model = openvino.convert_model(
        encoder.query_tower, example_input={"input_ids": words.input_ids, "attention_mask": words.attention_mask}
    )
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})

    def encode(queries: list[str]) -> Vectors:
        found = tokenize(queries, padding=True, truncation=True, return_tensors="np")
        states = compiled([found["input_ids"], found["attention_mask"]])[0]
        mask = found["attention_mask"][:, :, None]
        pooled = (states * mask).sum(axis=1) / mask.sum(axis=1)
        vectors: Vectors = (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32)
        return vectors

    return encode


def milliseconds(encode: Encode, queries: list[str]) -> dict[int, float]:
    """Return the time of a batch by its number of queries."""
    times: dict[int, float] = {}
    for size in SIZES:
        batches = [[queries[(batch * size + i) % len(queries)] for i in range(size)] for batch in range(BATCHES)]
        encode(batches[0])
        taken = []
        for batch in batches:
            started = time.perf_counter()
            encode(batch)
            taken.append(time.perf_counter() - started)
        times[size] = 1000 * float(np.percentile(taken, 25))
    return times


def compare(data: Path, folder: Path) -> dict[str, Any]:
    """Return for each form nDCG@10, its difference to float32's, the lowest cosine to its vectors, and the times."""
    with connected():
        import_tables(read_esci(data / "esci"), folder, on_bad_row="quarantine")
    judged = JudgedTables.open(folder)
    torch.set_num_threads(1)
    encoder = Encoder.load(backbone_path("minilm"))
    encoder.eval()
    products = VectorIndex.build(encoder.encode_items(baseline_text(judged.products)), IndexSettings(kind="exact"))
    queries = judged.queries["query"].to_pylist()
    reference = encoder.encode_queries(queries)
    report: dict[str, Any] = {}
    of_float32: Any = None
    for name, encode in forms(encoder).items():
        vectors = np.concatenate([encode(queries[start : start + 8]) for start in range(0, len(queries), 8)])
        run = as_run(judged, *rank_dense(judged, vectors, products))
        ndcg = np.asarray(evaluate_run(run, judged.judgements)["ndcg@10"])
        of_float32 = ndcg if of_float32 is None else of_float32
        report[name] = {
            "ndcg@10": float(ndcg.mean()),
            "difference": paired_difference(ndcg, of_float32)._asdict(),
            "lowest_cosine": float((vectors * reference).sum(axis=1).min()),
            "milliseconds": milliseconds(encode, queries),
        }
    return report


def main() -> None:
    """Measure, and print the figures."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = compare(options.data, Path(folder))
    if options.json:
        print(json.dumps(report))
        return
    for name, row in report.items():
        low, high = row["difference"]["low"], row["difference"]["high"]
        times = ", ".join(f"{value:.1f}" for value in row["milliseconds"].values())
        print(
            f"{name:9} nDCG@10 {row['ndcg@10']:.3f} ({row['difference']['mean']:+.4f} [{low:+.4f}, {high:+.4f}]), "
            f"lowest cosine {row['lowest_cosine']:.4f}; ms {times}"
        )


if __name__ == "__main__":
    main()
