"""Language models over data sets of prompts: engines, endpoints, the answer ledger, knowledge and synthetic queries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
