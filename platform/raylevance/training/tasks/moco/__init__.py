"""Momentum contrast of an encoder on pairs that are sampled from a behaviour graph."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
