"""One demo shop: the parts that its tables are computed from."""

from functools import lru_cache

from raylevance.data.demo.candidates import CandidateSource
from raylevance.data.demo.catalogue import Catalogue
from raylevance.data.demo.intents import Intents
from raylevance.data.demo.settings import DemoSettings
from raylevance.data.demo.users import Tastes


class Shop:
    """Holds some kilobytes, whatever the sizes in `settings`."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.catalogue = Catalogue(settings.products, settings.seed)
        self.intents = Intents(self.catalogue, settings.queries, settings.seed)
        self.candidates = CandidateSource(self.catalogue, settings.seed)
        self.tastes = Tastes(settings.seed)


@lru_cache(maxsize=2)
def open_shop(settings: DemoSettings) -> Shop:
    """The shop of `settings`, made once a process."""
    return Shop(settings)
