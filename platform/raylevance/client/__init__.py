"""A client of the HTTP API, sync and async, and the messages that the API takes and returns."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
