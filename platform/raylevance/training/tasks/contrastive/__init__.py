"""Contrastive training of an encoder on instances: queries with labelled items, or with in-batch negatives."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
