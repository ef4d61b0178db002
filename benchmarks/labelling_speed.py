"""Measure pairs per second of labelling: `raylevance.llm` through Ray Data against `vllm.LLM.generate` alone.

    python benchmarks/labelling_speed.py --data ../shared/data --json

Gemma 3 270M grades ESCI pairs by the guideline and three examples, with one token per pair. vLLM alone runs in three
ways: `default` has its default settings, and a simple prompt with the pair before the guideline; `bound` also uses all
processors; `same` has our settings and our prompt. All use one number format. Each runs in a process of its own, and
the first 64 pairs are not timed.

    python benchmarks/labelling_speed.py --orders --model /models/a-1b-instruct

compares two orders of the same pairs through Ray Data, those of a few queries with all of their products: `mixed`, and
`ordered` by query, as a labelling run puts them, where the engine reads the guideline and the query once.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from raylevance.data.text import ProductText
from raylevance.judges.guideline import load_guideline, pair_text
from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.backends import model_path
from raylevance.llm.language_model import Request
from raylevance.llm.vllm_engine import (
    VllmModel,
    VllmSettings,
    cpu_dtype,
    engine_arguments,
    engine_environment,
    load_causal_tokenizer,
    sampling_parameters,
)

WARM, PAIRS = 64, 256
WAYS = ("default", "bound", "same", "ray")
ORDERS = ("mixed", "ordered")
BOUND = {"VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}


def pairs(data: Path, order: str | None = None) -> list[tuple[str, str]]:
    """Return judged pairs of ESCI: spread evenly over the queries, or in one of `ORDERS` those of a few queries."""
    files = {name: next((data / "esci").glob(f"*{name}*.parquet")) for name in ("examples", "products")}
    examples = pq.read_table(files["examples"]).to_pylist()
    products = pq.read_table(files["products"])
    renamed = products.select(["product_id", "product_title", "product_brand", "product_color"])
    renamed = renamed.rename_columns(["product_id", "title", "brand", "color"])
    texts = dict(zip(renamed["product_id"].to_pylist(), ProductText(taxonomy_levels=0).compose(renamed), strict=True))
    judged = [(row["query"], texts[row["product_id"]]) for row in examples if row["product_id"] in texts]
    if order is None:
        return judged[:: len(judged) // (WARM + PAIRS)][: WARM + PAIRS]
    of_few_queries = sorted(judged)[: WARM + PAIRS]
    return random.Random(0).sample(of_few_queries, WARM + PAIRS) if order == "mixed" else of_few_queries


def bare(prompts: list[str], arguments: dict[str, Any], sampling: dict[str, Any]) -> float:
    """Return the pairs per second of `vllm.LLM.generate`."""
    import vllm

    engine = vllm.LLM(**arguments)
    parameters = vllm.SamplingParams(**sampling)
    engine.generate(prompts[:WARM], parameters, use_tqdm=False)
    started = time.perf_counter()
    engine.generate(prompts[WARM:], parameters, use_tqdm=False)
    return PAIRS / (time.perf_counter() - started)


def through_ray(prompts: list[str], settings: VllmSettings) -> float:
    """Return the pairs per second through Ray Data, without the first `WARM` answers."""
    import ray.data

    from raylevance.cluster import connected

    with connected():
        rows = ray.data.from_items([{"key": str(place), "prompt": prompt} for place, prompt in enumerate(prompts)])
        answers = VllmModel(settings).answer(
            rows.repartition(target_num_rows_per_block=32), Request(choices=("0", "1", "2"))
        )
        arrived = []
        for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            arrived.append(
                (time.perf_counter(), batch.num_rows, [error for error in batch["error"].to_pylist() if error])
            )
    assert not any(errors for _, _, errors in arrived), arrived[-1]
    counted = 0
    for moment, rows_here, _ in arrived:
        counted += rows_here
        if counted >= WARM:
            return (len(prompts) - counted) / (arrived[-1][0] - moment)
    raise AssertionError


def measure(way: str, data: Path, named: str) -> float:
    """Return the pairs per second of one of `WAYS` or `ORDERS`, in this process."""
    guideline, model = load_guideline(), model_path(named)
    settings = VllmSettings(model=model)
    prompt = JudgePrompt.zero_shot(guideline).in_chat(load_causal_tokenizer(model))
    ours = [prompt.render(*pair) for pair in pairs(data, way if way in ORDERS else None)]
    naive = [f"{pair_text(*pair)}?\n{guideline.text()}\nThe grade of the first pair: " for pair in pairs(data)]
    if way in ("default", "bound"):
        arguments = {"model": model, "max_model_len": settings.max_model_len, "dtype": cpu_dtype()}
        return bare(naive, arguments, {"max_tokens": 2, "temperature": 0})
    if way == "same":
        return bare(
            ours,
            {"model": model, "dtype": cpu_dtype(), **engine_arguments(settings)},
            sampling_parameters(model, Request(choices=("0", "1", "2"))),
        )
    return through_ray(ours, settings)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--model", default="gemma", help="a name or a folder of a language model")
    parser.add_argument("--orders", action="store_true", help="compare two orders of the pairs")
    parser.add_argument("--way", choices=WAYS, help="one of them alone")
    parser.add_argument("--here", choices=WAYS + ORDERS, help="one of them in this process, as it is")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.here:
        sys.stdout.write(f"\nrate {measure(options.here, options.data, options.model):.3f}\n")
        return
    ways = ORDERS if options.orders else (options.way,) if options.way else WAYS
    rates = {way: in_a_process(way, options.data, options.model) for way in ways}
    if ways != WAYS:
        print("\n".join(f"{way}: {rate:.2f} pairs a second" for way, rate in rates.items()))
        return
    result = {
        "processors": os.cpu_count(),
        "pairs_per_second": rates,
        "ray_to_same": rates["ray"] / rates["same"],
        "ray_to_bound": rates["ray"] / rates["bound"],
    }
    print(json.dumps(result, indent=2))


def in_a_process(way: str, data: Path, model: str) -> float:
    """Return the pairs per second of one of `WAYS` or `ORDERS`, in a process of its own."""
    variables = {"default": {"VLLM_CPU_KVCACHE_SPACE": "2"}, "bound": BOUND | {"VLLM_CPU_KVCACHE_SPACE": "2"}}
    added = variables.get(way, engine_environment(VllmSettings(model="")) | BOUND if way == "same" else {})
    command = [sys.executable, __file__, "--here", way, "--data", str(data), "--model", model]
    done = subprocess.run(command, env=os.environ | added, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.rsplit("rate ", 1)[1].split()[0])


if __name__ == "__main__":
    main()
