"""Judges that grade query-product pairs: guideline, prompt, graders, labelling, agreement gate and engagement audit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
