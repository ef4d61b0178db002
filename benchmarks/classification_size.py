"""Memory and speed of training a query classifier on generated queries: `python benchmarks/classification_size.py`.

Labels and queries grow by tens, up to 6,634 labels (the paper's) and 1,000,000 queries, one after the other; options
give other sizes. Each size runs in a process of its own with a Ray of 2 processors and 512 MiB of object store: all
queries are tokenised, then `--steps` steps of 64 queries are trained on MiniLM with a label graph, of which the first
encodes the texts of all labels, as every sixteenth does. Printed are the peak memory (proportional set size, of the
process and Ray's), queries tokenised and trained a second, and the seconds of a step with and without label texts.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from legs import run_leg
from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.data.query_labels import QUERY_LABELS

LABEL_COUNT, QUERY_COUNT = 6_634, 1_000_000
BLOCK = 50_000
REFRESH = 16
WORDS = [
    "".join(pair) for pair in np.array(np.meshgrid(list("bdfklmnprst"), ["ana", "elo", "iri", "opu"])).T.reshape(-1, 2)
]


def space_of(count: int) -> LabelSpace:
    """Return `count` labels, each a name of three made-up words below one of their 40th root."""
    rng = np.random.default_rng(0)
    roots = max(1, count // 40)
    names = [" ".join(rng.choice(WORDS, 3)) + f" {number}" for number in range(count + roots)]
    rows = [["category"] * len(names), [str(row) for row in range(len(names))], names]
    parents = [None if row < roots else str(row % roots) for row in range(len(names))]
    return LabelSpace(pa.table([*rows, parents, names, [row >= roots for row in range(len(names))]], schema=LABELS))


def write_queries(file: Path, space: LabelSpace, count: int) -> None:
    """Write `count` queries, each of two words of the name of its label and another word; labels follow Zipf's law."""
    rng = np.random.default_rng(1)
    predicted = np.flatnonzero(space.predicted)
    names = space.labels["name"].to_pylist()
    with pq.ParquetWriter(file, QUERY_LABELS) as writer:
        for start in range(0, count, BLOCK):
            rows = min(BLOCK, count - start)
            chosen = predicted[((len(predicted) + 1) ** rng.random(rows) - 1).astype(int).clip(max=len(predicted) - 1)]
            texts = [
                f"{' '.join(names[row].split()[:2])} {word}"
                for row, word in zip(chosen, rng.choice(WORDS, rows), strict=True)
            ]
            lists = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), pa.array(chosen, pa.int32()))
            ones = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), pa.array(np.ones(rows, np.float32)))
            columns = [texts, ["category"] * rows, lists, ones, ["file"] * rows, np.ones(rows, np.float32)]
            writer.write_table(pa.table(columns, schema=QUERY_LABELS))


def leg(labels: int, queries: int, steps: int) -> dict[str, Any]:
    """Measure one size in this process."""
    import ray
    import scipy.sparse as sp

    from raylevance.graph.label_graphs import fuse_graphs, hierarchy_graph, normalise
    from raylevance.inference.encoder import backbone_path
    from raylevance.models.encoder import Encoder, EncoderSettings
    from raylevance.models.query_classifier import QueryClassifier, QueryClassifierSettings
    from raylevance.training.settings import MachineSettings
    from raylevance.training.tasks.classification import Classification, ClassificationSettings
    from raylevance.training.trainer import train

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=512 << 20)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = space_of(labels)
        write_queries(folder / "train.parquet", space, queries)
        graph: sp.csr_matrix = normalise(
            fuse_graphs(None, None, hierarchy_graph(space.parents_within("category"), np.ones(len(space))))
        ).tocsr()
        Encoder.from_backbone(EncoderSettings(backbone=str(backbone_path("minilm")))).save(folder / "encoder")
        settings = QueryClassifierSettings()
        QueryClassifier.from_encoder(folder / "encoder", space, {"category": graph}, settings).save(folder / "new")
        train_settings = ClassificationSettings(max_steps=steps, refresh_every=REFRESH)
        task = Classification(folder / "new", folder / "train.parquet", train_settings)
        started = time.perf_counter()
        (folder / "run").mkdir()
        task.prepare(folder / "run")
        prepared = time.perf_counter() - started
        machine = MachineSettings(cpus_per_worker=1, log_every=1)
        result = train(task, machine, run_dir=folder / "run", output=folder / "trained")
    rates = [record["pairs_per_second"] for record in result.history if record["step"]]
    seconds = [train_settings.batch / rate for rate in rates]
    plain = float(np.median([each for step, each in enumerate(seconds) if step % REFRESH]))
    texts = seconds[0]
    step = plain + (texts - plain) / REFRESH
    return {
        "labels": labels,
        "queries": queries,
        "tokenised/s": queries / prepared,
        "step_s": plain,
        "step_with_texts_s": texts,
        "trained/s": train_settings.batch / step,
    }


def main() -> None:
    """Measure, and print a line of figures for each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels", type=int, default=LABEL_COUNT)
    parser.add_argument("--queries", type=int, default=QUERY_COUNT)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only-largest", action="store_true")
    parser.add_argument("--leg", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.leg:
        print(json.dumps(leg(options.labels, options.queries, options.steps)))
        return
    sizes = [(options.labels, options.queries)]
    if not options.only_largest:
        sizes += [(options.labels // part, options.queries) for part in (10, 100)]
        sizes += [(options.labels, options.queries // part) for part in (10, 100)]
    for labels, queries in sizes:
        arguments = ["--labels", str(labels), "--queries", str(queries), "--steps", str(options.steps)]
        figures = run_leg([sys.executable, __file__, "--leg", *arguments])
        print(", ".join(f"{name} {value:,.2f}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
