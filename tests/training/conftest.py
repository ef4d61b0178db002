"""Training instances and contrast rows over the words that the tiny backbone knows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.training.settings import MachineSettings
from tests.conftest import WORDS


def split_machine_settings(options: dict[str, Any]) -> tuple[dict[str, Any], MachineSettings]:
    """Split `options` into settings of the training and settings of the machine."""
    machine = {name: value for name, value in options.items() if name in MachineSettings.model_fields}
    training = {name: value for name, value in options.items() if name not in machine}
    return training, MachineSettings(**machine)


def write_instances(file: Path, count: int, seed: int = 0) -> Path:
    """Write `count` instances of 2 to 5 items, each with a positive label and a zero."""
    rng = np.random.default_rng(seed)

    def text(words: int) -> str:
        return " ".join(rng.choice(WORDS, words))

    sizes = rng.integers(2, 6, count)
    labels = [[2, 0, *rng.integers(0, 3, size - 2).tolist()] for size in sizes]
    table = pa.table(
        {
            "query": [text(rng.integers(1, 5)) for _ in sizes],
            "items": [[text(rng.integers(2, 12)) for _ in range(size)] for size in sizes],
            "labels": pa.array(labels, pa.list_(pa.int8())),
        }
    )
    pq.write_table(table, file)
    return file


@pytest.fixture(scope="session")
def instances_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_instances(tmp_path_factory.mktemp("instances") / "instances.parquet", 37)


@pytest.fixture(scope="session")
def tokens_file(
    ray_cluster: None, instances_file: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from raylevance.training.tasks.contrastive.tokenised_instances import INSTANCES
    from raylevance.training.token_file import write_tokens

    tokens = tmp_path_factory.mktemp("tokens") / "tokens.arrow"
    write_tokens(instances_file, tiny_backbone, tokens, INSTANCES)
    return tokens


def write_contrast_rows(file: Path, count: int, seed: int = 0) -> Path:
    """Write `count` rows of both sides over 24 nodes, which repeat; some rows have hard negatives or a cluster."""
    rng = np.random.default_rng(seed)
    sides = ["query", "item"] * 12
    nodes = [" ".join(rng.choice(WORDS, rng.integers(1, 5 if side == "query" else 14))) for side in sides]
    rows = []
    for _ in range(count):
        anchor, positive = (int(node) for node in rng.choice(24, 2, replace=False))
        clustered = sides[anchor] == "item" and rng.random() < 0.8
        queries = [nodes[node] for node in 2 * rng.choice(12, 3, replace=False)]
        rows.append(
            {
                "anchor": nodes[anchor],
                "anchor_side": sides[anchor],
                "positive": nodes[positive],
                "positive_side": sides[positive],
                "negatives": [nodes[node] for node in rng.choice(24, rng.integers(0, 4))],
                "positive_id": positive,
                "related": rng.choice(24, rng.integers(0, 4)).tolist(),
                "cluster": queries if clustered else [],
                "cluster_weights": [0.5, 0.375, 0.125] if clustered else [],
                "cluster_id": anchor if clustered else -1,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.fixture(scope="session")
def contrast_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contrast_rows(tmp_path_factory.mktemp("contrast") / "rows.parquet", 37)
