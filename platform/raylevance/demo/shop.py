"""One demo shop: the parts that its tables are computed from."""

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
from raylevance.demo.vocabulary.languages import LANGUAGES, Locale


class Storefront:
    """The shop in one locale: a catalogue of its own and what is asked there, numbered from 0.

    Of l locales the one at `place` has the products and queries whose numbers leave `place` when divided by l.
    """

    def __init__(self, settings: DemoSettings, place: int) -> None:
        self.settings = settings
        self.place = place
        self.locale: Locale = settings.locales[place]
        self.language = LANGUAGES[self.locale]
        self.seed = _seed(settings.seed, self.locale)
        self.catalogue = Catalogue(self._share(settings.products), self.seed)
        self.intents = Intents(self.catalogue, self._share(settings.queries), self.seed)
        self.candidates = CandidateSource(self.catalogue, self.seed)

    def numbers(self, own: Ints) -> Ints:
        """The shop's numbers of the products or queries that have the numbers `own` here."""
        return own * len(self.settings.locales) + self.place

    def _share(self, size: int) -> int:
        return len(range(self.place, size, len(self.settings.locales)))


class Shop:
    """Holds some kilobytes a locale, whatever the sizes in `settings`."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.storefronts = [Storefront(settings, place) for place in range(len(settings.locales))]
        self.tastes = Tastes(settings.seed)

    def parted(self, numbers: Ints) -> Iterator[tuple[Storefront, Ints, Ints]]:
        """For each storefront with some of `numbers`, of products or queries: their places, and their numbers in it."""
        count = len(self.storefronts)
        for storefront in self.storefronts:
            places = np.flatnonzero(numbers % count == storefront.place)
            if len(places):
                yield storefront, places, numbers[places] // count

    def table(self, start: int, stop: int, rows: Callable[[Storefront, Ints], pa.Table]) -> pa.Table:
        """Rows of the products or queries `start` to `stop`; `rows` makes those of a storefront, as many for each."""
        parts = [(places, rows(storefront, own)) for storefront, places, own in self.parted(np.arange(start, stop))]
        if len(parts) == 1:
            return parts[0][1]
        joined = pa.concat_tables([table for _, table in parts])
        each = joined.num_rows // (stop - start)
        back = np.argsort(np.concatenate([places for places, _ in parts]))
        return joined.take(pa.array((back[:, None] * each + np.arange(each)).ravel()))


@lru_cache(maxsize=2)
def open_shop(settings: DemoSettings) -> Shop:
    """The shop of `settings`, made once a process."""
    return Shop(settings)


def _seed(seed: int, locale: Locale) -> int:
    """Other products in each locale; English ones are those of a shop that has no other language."""
    return seed if locale == "us" else int(Draws(seed, f"locale {locale}").bits(np.zeros(1, np.int64))[0])
