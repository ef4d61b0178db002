"""raylevance: e-commerce search relevance on Ray, from a click log to a served, graded retriever."""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
