"""The artifact store: versions of artifacts in a folder or an object store, each with a manifest."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
