"""Search over products: nearest vectors, BM25, their fusion, filters, and the mining of hard pairs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
