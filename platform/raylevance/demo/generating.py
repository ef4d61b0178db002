"""The demo shop as a folder of tables, written by Ray Data in parts.

Each task writes one Parquet part while it computes it, so that a worker holds one block and no rows pass through the
object store. The names and the rows of the parts depend only on the settings.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from raylevance.data.schema import TABLES
from raylevance.demo.events import chunk_count, events
from raylevance.demo.judgements import judgements
from raylevance.demo.products import products
from raylevance.demo.queries import queries
from raylevance.demo.settings import DemoSettings
from raylevance.demo.shop import Shop, open_shop


class Layout(NamedTuple):
    """The division of a table into parts, which are files, of several blocks each.

    A unit is a product, a query or a chunk of events, and the table has `units` of them. `rows(shop, start, stop)`
    returns the rows of units `start` to `stop`.
    """

    rows: Callable[[Shop, int, int], pa.Table]
    units: int
    units_per_block: int
    blocks_per_part: int

    @property
    def parts(self) -> int:
        """The number of files. A table without rows has one."""
        return max(1, -(-self.units // (self.units_per_block * self.blocks_per_part)))


def layouts(shop: Shop) -> dict[str, Layout]:
    """Return the layout of each table: 16,000 to 66,000 rows per block, and about 500,000 rows per part."""
    settings = shop.settings
    return {
        "products": Layout(products, settings.products, 1 << 14, 32),
        "queries": Layout(queries, settings.queries, 1 << 14, 32),
        "judgements": Layout(judgements, settings.queries, 1 << 10, 16),
        "events": Layout(events, chunk_count(settings), 1, 8),
    }


def generate(settings: DemoSettings, output: Path) -> dict[str, int]:
    """Write products/, queries/, judgements/ and events/ under `output` and return the number of rows of each.

    Ray must be running, and all its nodes must have access to `output`. Each running task holds one block, for any
    sizes in `settings`. Raises `FileExistsError` if the folder of a table exists.
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
    size = layout.units_per_block
    first = part * layout.blocks_per_part * size
    last = min(layout.units, first + layout.blocks_per_part * size)
    rows = 0
    with pq.ParquetWriter(output / table / f"part-{part:06d}.parquet", TABLES[table], compression="zstd") as file:
        for start in range(first, last, size):
            block = layout.rows(shop, start, min(start + size, last))
            file.write_table(block)
            rows += block.num_rows
    return {"table": [table], "rows": [rows]}
