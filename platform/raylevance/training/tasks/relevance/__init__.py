"""Training of the relevance model on pairs judged by people and pairs labelled from behaviour."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
