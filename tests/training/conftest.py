"""Training instances over the words that the tiny backbone knows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import WORDS


def write_instances(file: Path, count: int, seed: int = 0) -> Path:
    """`count` instances of 2 to 5 items whose labels hold both a positive and a zero."""
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
    from raylevance.training.instances import tokenise

    tokens = tmp_path_factory.mktemp("tokens") / "tokens.arrow"
    tokenise(instances_file, tiny_backbone, tokens)
    return tokens
