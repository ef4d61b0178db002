"""The demo shop as a folder of tables, made by Ray Data a part at a time.

Each task writes one Parquet part as it computes it, so that a worker holds one block and nothing passes through the
object store. The parts' names and rows depend on the settings alone.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from raylevance.data.schema import TABLES
from raylevance.demo.events import chunks, events
from raylevance.demo.judgements import judgements
from raylevance.demo.products import products
from raylevance.demo.queries import queries
from raylevance.demo.settings import DemoSettings
from raylevance.demo.shop import Shop, open_shop


class Layout(NamedTuple):
    """How a table is cut: `units` of it in all (products, queries, chunks of events), some a block, some blocks a part.

    `rows(shop, start, stop)` makes the rows of units `start` to `stop`.
    """

    rows: Callable[[Shop, int, int], pa.Table]
    units: int
    units_a_block: int
    blocks_a_part: int

    @property
    def parts(self) -> int:
        """How many files; a table without rows has one."""
        return max(1, -(-self.units // (self.units_a_block * self.blocks_a_part)))


def layouts(shop: Shop) -> dict[str, Layout]:
    """The layout of each of `TABLES`: some ten thousand rows a block, half a million or a million a part."""
    settings = shop.settings
    return {
        "products": Layout(products, settings.products, 1 << 14, 32),
        "queries": Layout(queries, settings.queries, 1 << 14, 32),
        "judgements": Layout(judgements, settings.queries, 1 << 10, 16),
        "events": Layout(events, chunks(settings), 1, 8),
    }


def generate(settings: DemoSettings, output: Path) -> dict[str, int]:
    """Write products/, queries/, judgements/ and events/ under `output` and return the rows of each.

    Ray is up; `output` is a folder that its nodes see, without these tables. Each running task holds one block,
    whatever the sizes in `settings`. Raises `FileExistsError` where a table's folder is there.
    """
    for table in TABLES:
        (output / table).mkdir(parents=True)
    plan = layouts(open_shop(settings))
    parts = [{"table": table, "part": part} for table in TABLES for part in range(plan[table].parts)]
    written = (
        ray.data.from_items(parts, override_num_blocks=len(parts))
        .map_batches(partial(_write_part, settings=settings, output=output.absolute()), batch_size=1)
        .take_all()
    )
    return {table: sum(int(row["rows"]) for row in written if row["table"] == table) for table in TABLES}


def _write_part(batch: dict[str, Any], settings: DemoSettings, output: Path) -> dict[str, Any]:
    table, part = str(batch["table"][0]), int(batch["part"][0])
    shop = open_shop(settings)
    layout = layouts(shop)[table]
    size = layout.units_a_block
    first = part * layout.blocks_a_part * size
    last = min(layout.units, first + layout.blocks_a_part * size)
    rows = 0
    with pq.ParquetWriter(output / table / f"part-{part:06d}.parquet", TABLES[table], compression="zstd") as file:
        for start in range(first, last, size):
            block = layout.rows(shop, start, min(start + size, last))
            file.write_table(block)
            rows += block.num_rows
    return {"table": [table], "rows": [rows]}
