"""Time of classifying one query, beside encoding it: `python benchmarks/classification_speed.py [labels]`.

The classifier has 10,000 labels with random vectors, or as many as given; the encoder is MiniLM. The same queries, each
once, are encoded and classified in turn, one at a time.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.inference.encoder import backbone_path
from raylevance.inference.encoding import encode_texts
from raylevance.inference.query_classifier import LoadedClassifier, TaskLabels
from raylevance.models.encoder import Encoder, EncoderSettings

QUERIES = 400


def random_classifier(encoder: Path, labels: int) -> LoadedClassifier:
    """Return a classifier of one task with random vectors, so that some labels pass."""
    rng = np.random.default_rng(0)
    names = [f"label {number}" for number in range(labels)]
    columns = [["category"] * labels, names, names, [None] * labels, names, [True] * labels]
    space = LabelSpace(pa.table(columns, schema=LABELS))
    rows = rng.normal(size=(labels, 384)).astype(np.float32)
    bias, limits = np.zeros(labels, np.float32), np.full(labels, 0.5, np.float32)
    return LoadedClassifier(encoder, space, {"category": TaskLabels(rows, bias, limits, np.ones(labels, np.int64))})


def main() -> None:
    """Print the median milliseconds of both, and their ratio."""
    labels = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder) / "encoder"
        Encoder.from_backbone(EncoderSettings(backbone=str(backbone_path("minilm")))).save(encoder)
        classifier = random_classifier(encoder, labels)
        seconds: dict[str, list[float]] = {"encode": [], "classify": []}
        for number in range(-20, QUERIES):
            query = [f"red kettle with {number} litres"]
            for name, work in {
                "encode": lambda query=query: encode_texts(encoder, query, "query"),
                "classify": lambda query=query: classifier.classify(query, "category", 3),
            }.items():
                start = time.perf_counter()
                work()
                if number >= 0:
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}
    print(f"{labels} labels, {QUERIES} queries, one thread, ms at p50: {medians}")
    print(f"classify / encode: {medians['classify'] / medians['encode']:.2f}")


if __name__ == "__main__":
    main()
