"""The behaviour graph: edges from events, meta-path projections, random walks, and training pairs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
