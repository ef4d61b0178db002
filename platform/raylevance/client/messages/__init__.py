"""The messages that go over HTTP: requests, answers, and the body of every failure.

Requests are strict: an unknown field, or a value of another type, is refused with status 422. Every answer carries the
versions of the artifacts that it was made from.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
