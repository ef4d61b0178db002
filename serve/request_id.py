"""The id of the request that is being answered."""

import random
from contextvars import ContextVar

IDS = random.Random()
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


def new_id() -> str:
    """Return 32 random hex digits. Ids need not be secret, and uuid4 asks the kernel for each, 70 microseconds."""
    return f"{IDS.getrandbits(128):032x}"
