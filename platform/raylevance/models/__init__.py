"""Models that turn texts into vectors, and vectors of pairs into scores."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
