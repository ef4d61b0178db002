"""How large a demo shop to make, and in which languages."""

from typing import Self

from pydantic import Field, NonNegativeInt, model_validator

from raylevance.config import Settings
from raylevance.demo.candidates import MOST
from raylevance.demo.vocabulary import LEAVES
from raylevance.demo.vocabulary.languages import Locale


class DemoSettings(Settings):
    """Sizes of the tables. `events` counts rows; `judged_per_query` is exact. One `seed` decides everything else.

    Products and queries take turns in `locales`; a query finds products of its own.
    """

    products: int = Field(5000, ge=len(LEAVES), le=1_000_000_000)
    queries: int = Field(500, ge=1, le=100_000_000)
    events: int = Field(50_000, ge=0)
    users: int = Field(2000, ge=1)
    judged_per_query: int = Field(40, ge=1, le=MOST)
    seed: NonNegativeInt = 0
    locales: tuple[Locale, ...] = Field(("us",), min_length=1)

    @model_validator(mode="after")
    def _room_for_all(self) -> Self:
        count = len(self.locales)
        if len(set(self.locales)) < count:
            raise ValueError(f"locales: each once, got {', '.join(self.locales)}")
        if self.products < count * len(LEAVES) or self.queries < count:
            least = f"{count * len(LEAVES)} products and {count} queries"
            raise ValueError(f"{count} locales need {least} or more, got {self.products} and {self.queries}")
        return self
