from . import messages
from .http import ApiError, AsyncClient, Client

__all__ = ["ApiError", "AsyncClient", "Client", "messages"]
