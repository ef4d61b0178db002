"""Losses: pure functions of tensors, each with its formula and its source. All of them are sums over instances."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
