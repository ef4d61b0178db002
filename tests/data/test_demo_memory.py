"""The memory that a large demo shop takes."""

from pathlib import Path

import pytest

from tests.peak_memory import peak_bytes

LIMIT = 2 << 30
WORK = """
from raylevance.demo import DemoSettings, generate
products, events = int(sys.argv[1]), int(sys.argv[2])
rows = generate(DemoSettings(products=products, events=events), Path(sys.argv[3]))
assert (rows["products"], rows["events"]) == (products, events)
"""


@pytest.mark.long
def test_five_million_products_and_fifty_million_events_in_two_gibibytes(tmp_path: Path) -> None:
    assert peak_bytes(WORK, 5_000_000, 50_000_000, tmp_path, object_store=128 << 20) < LIMIT
