"""Models of Hugging Face as every package here reads them: errors in one line, dropout as told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError

from raylevance.errors import RaylevanceError


@contextmanager
def without_progress() -> Iterator[None]:
    """For the block, no progress bars of Hugging Face: they are of files, not of the work."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


@contextmanager
def one_line_errors(source: str, what: str) -> Iterator[None]:
    """What Hugging Face raises where `source` is not readable as `what` ("encoder"), as one line that names it."""
    try:
        with without_progress():
            yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if not Path(source).exists():
            reason = f"no such folder, and no {what} that the Hugging Face hub (or its cache) gives"
        else:
            reason = f"not a readable {what} folder: " + " ".join(str(error).split())[:200]
        raise RaylevanceError(f"{source}: {reason}") from None


def read_config(source: str | Path, dropout: float) -> Any:
    """The configuration of the model at `source`, every dropout probability set to `dropout`."""
    config = transformers.AutoConfig.from_pretrained(str(source))
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, int | float):
            setattr(config, name, dropout)
    return config
