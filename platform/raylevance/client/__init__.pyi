from . import messages

__all__ = ["messages"]
