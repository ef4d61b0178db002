"""Readers, one for each format. Each returns `{table: rows}` for `raylevance.data.importing.import_tables`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
