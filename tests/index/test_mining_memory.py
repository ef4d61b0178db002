"""Test of mining at scale: memory use is that of a shard, and an exact search of shards misses nothing."""

from pathlib import Path

import numpy as np
import pytest

from tests.peak_memory import peak_bytes

LIMIT = 8 << 30
PRODUCTS, QUERIES, DIMENSIONS, SHARD, K = 1_000_000, 10_000, 384, 50_000, 100
WORK = """
import numpy as np
from raylevance.index.sharded_search import search_shards
from raylevance.index.vectors import IndexSettings
folder = Path(sys.argv[1])
queries = np.load(folder / "queries.npy")
scores, rows = search_shards(sorted(folder.glob("shard-*.npy")), queries, 100, IndexSettings(kind="exact"))
np.save(folder / "rows.npy", rows)
"""


@pytest.mark.long
def test_ten_thousand_queries_over_a_million_products_in_eight_gibibytes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(PRODUCTS // SHARD):
        np.save(tmp_path / f"shard-{number:03}.npy", unit(random, SHARD))
    queries = unit(random, QUERIES)
    np.save(tmp_path / "queries.npy", queries)
    assert peak_bytes(WORK, tmp_path, object_store=500_000_000) < LIMIT
    found = np.load(tmp_path / "rows.npy")
    sample = queries[:20]
    files = sorted(tmp_path.glob("shard-*.npy"))
    scores = np.concatenate([sample @ np.load(file).T for file in files], axis=1)
    expected = np.argsort(-scores, axis=1)[:, :K]
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(expected, found[:20], strict=True)])
    assert recall >= 0.999, "but for equal scores in another order"


def unit(random: np.random.Generator, count: int) -> np.ndarray:
    vectors = random.standard_normal((count, DIMENSIONS), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
