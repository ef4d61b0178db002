"""Training of the query classifier on labels from clicks, judgements and titles."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
