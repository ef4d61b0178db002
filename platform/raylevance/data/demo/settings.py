"""How large a demo shop to make."""

from pydantic import Field

from raylevance.config import Settings
from raylevance.data.demo.candidates import MOST
from raylevance.data.demo.vocabulary import LEAVES


class DemoSettings(Settings):
    """Sizes of the tables. `events` counts rows; `judged_per_query` is exact. One `seed` decides everything else."""

    products: int = Field(5000, ge=len(LEAVES), le=1_000_000_000)
    queries: int = Field(500, ge=1, le=100_000_000)
    events: int = Field(50_000, ge=0)
    users: int = Field(2000, ge=1)
    judged_per_query: int = Field(40, ge=1, le=MOST)
    seed: int = 0
