"""A demo shop: the parts from which its tables are computed."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa

from raylevance.demo.candidates import CandidateSource
from raylevance.demo.catalogue import Catalogue
from raylevance.demo.intents import Intents
from raylevance.demo.randomness import Draws, Ints
from raylevance.demo.settings import DemoSettings
from raylevance.demo.users import Tastes
from raylevance.demo.vocabulary import Locale, language


class Storefront:
    """The shop in one locale, with its own catalogue and its own queries, which are numbered from 0.

    With l locales, the storefront at `place` has the products and queries whose numbers are `place` modulo l.
    """

    def __init__(self, settings: DemoSettings, place: int) -> None:
        self.settings = settings
        self.place = place
        self.locale: Locale = settings.locales[place]
        self.language = language(self.locale)
        self.seed = _seed(settings.seed, self.locale)
        self.catalogue = Catalogue(self._share(settings.products), self.seed)
        self.intents = Intents(self.catalogue, self._share(settings.queries), self.seed)
        self.candidates = CandidateSource(self.catalogue, self.seed)

    def numbers(self, own: Ints) -> Ints:
        """Return the numbers in the whole shop of the products or queries with the numbers `own` in this storefront."""
        return own * len(self.settings.locales) + self.place

    def _share(self, size: int) -> int:
        return len(range(self.place, size, len(self.settings.locales)))


class Shop:
    """A demo shop. It takes some kilobytes per locale, however many products or queries `settings` asks for."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.storefronts = [Storefront(settings, place) for place in range(len(settings.locales))]
        self.tastes = Tastes(settings.seed)

    def by_storefront(self, numbers: Ints) -> Iterator[tuple[Storefront, Ints, Ints]]:
        """Group `numbers` of products or queries by storefront.

        Yields each storefront that has some, with their places in `numbers` and their numbers in the storefront.
        """
        count = len(self.storefronts)
        for storefront in self.storefronts:
            places = np.flatnonzero(numbers % count == storefront.place)
            if len(places):
                yield storefront, places, numbers[places] // count

    def table(self, start: int, stop: int, rows: Callable[[Storefront, Ints], pa.Table]) -> pa.Table:
        """Return the table of the products or queries `start` to `stop` (exclusive), from all storefronts.

        `rows(storefront, own)` makes the part of one storefront, where `own` are their numbers in it. It must return
        the rows in the order of `own`, and equally many for each number.
        """
        parts = [
            (places, rows(storefront, own)) for storefront, places, own in self.by_storefront(np.arange(start, stop))
        ]
        if len(parts) == 1:
            return parts[0][1]
        joined = pa.concat_tables([table for _, table in parts])
        each = joined.num_rows // (stop - start)
        back = np.argsort(np.concatenate([places for places, _ in parts]))
        return joined.take(pa.array((back[:, None] * each + np.arange(each)).ravel()))


@lru_cache(maxsize=2)
def open_shop(settings: DemoSettings) -> Shop:
    """Return the shop of `settings`, which is created once per process."""
    return Shop(settings)


def _seed(seed: int, locale: Locale) -> int:
    """Return the seed of a locale. That of `us` is `seed`: a second language does not change the English products."""
    return seed if locale == "us" else int(Draws(seed, f"locale {locale}").bits(np.zeros(1, np.int64))[0])
