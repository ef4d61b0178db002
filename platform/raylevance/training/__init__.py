"""The training loop of all recipes, on Ray Train, and the tasks that it trains."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
