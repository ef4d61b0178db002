"""The sizes, the languages and the seed of a demo shop."""

from typing import Self

from pydantic import Field, NonNegativeInt, model_validator

from raylevance.config import Settings
from raylevance.demo.candidates import MAX_CANDIDATES
from raylevance.demo.vocabulary import LEAVES, Locale


class DemoSettings(Settings):
    """Settings of a demo shop, which determine every row of its tables.

    `products`, `queries` and `events` are numbers of rows. Each query has `judged_per_query` judgements. Products and
    queries are spread evenly over `locales`, and a query has only products of its own locale.
    """

    products: int = Field(5000, ge=len(LEAVES), le=1_000_000_000)
    queries: int = Field(500, ge=1, le=100_000_000)
    events: int = Field(50_000, ge=0)
    users: int = Field(2000, ge=1)
    judged_per_query: int = Field(40, ge=1, le=MAX_CANDIDATES)
    seed: NonNegativeInt = 0
    locales: tuple[Locale, ...] = Field(("us",), min_length=1)

    @model_validator(mode="after")
    def _check_locales(self) -> Self:
        count = len(self.locales)
        if len(set(self.locales)) < count:
            raise ValueError(f"locales: expected each locale once, got {', '.join(self.locales)}")
        if self.products < count * len(LEAVES) or self.queries < count:
            least = f"{count * len(LEAVES)} products and {count} queries"
            raise ValueError(f"{count} locales need at least {least}, got {self.products} and {self.queries}")
        return self
