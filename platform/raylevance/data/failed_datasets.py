"""What a Ray Data set that failed leaves behind: an error in Ray's wrapper, and actors that keep their CPUs."""

import gc

from raylevance.errors import RaylevanceError, UsageError


def unwrapped_error(error: BaseException) -> RaylevanceError | None:
    """Return the `RaylevanceError` inside an error that Ray raised, or None if there is no such error inside."""
    cause: BaseException | None = error
    while cause is not None:
        # Ray's wrapper is an instance of the class it wraps as well, and Ray adds lines of advice to the text.
        if type(cause) in (RaylevanceError, UsageError):
            return type(cause)(str(cause).splitlines()[0])  # type: ignore[return-value]
        cause = getattr(cause, "cause", None) or cause.__cause__
    return None


def free_actors() -> None:
    """Free the actors of data sets that failed. Call it when nothing refers to Ray's error any more.

    Ray Data leaves it to reference counting to end the actors of a pool. A data set that failed is part of a reference
    cycle (its error, the traceback, the frame that keeps the error), so its actors hold their CPUs until Python
    collects cycles. A process that waits for these CPUs allocates nothing, so that may be never.
    """
    gc.collect()
