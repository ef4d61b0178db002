"""Helpers to read Hugging Face models: errors in one line, no progress bars, and a given dropout."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers

from raylevance.errors import RaylevanceError, one_line

# The code of every model imports scikit-learn where it is installed, for assisted generation, which nothing here uses.
# That import is a quarter of the time until a process has its first model. In this process assisted generation keeps
# its threshold, and transformers.data.metrics lacks F1.
transformers.utils.is_sklearn_available = lambda: False  # type: ignore[attr-defined]


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Turn off the progress bars of Hugging Face for the block, because they count files and not our work."""
    were_enabled = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_enabled:
            transformers.utils.logging.enable_progress_bar()


@contextmanager
def without_load_report() -> Iterator[None]:
    """Keep Hugging Face from printing a table of the weights that a model has too many or too few of, for the block."""
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


@contextmanager
def one_line_errors(source: str, kind: str) -> Iterator[None]:
    """Turn the errors in the block into a `RaylevanceError` of one line that names `source`.

    `kind` says what `source` was read as, such as "encoder". A folder of another project can fail in any way (a damaged
    tokenizer raises a plain `Exception`), so every error is taken for a fault of the folder.
    """
    try:
        with without_progress_bars():
            yield
    except RaylevanceError:
        raise
    except Exception as error:
        if not Path(source).exists():
            reason = f"no such folder, and no {kind} of this name on the Hugging Face hub or in its cache"
        else:
            reason = f"not a readable {kind} folder: " + one_line(error)
        raise RaylevanceError(f"{source}: {reason}") from error


def read_config_with_dropout(source: str | Path, dropout: float) -> Any:
    """Return the configuration of the model at `source`, with every dropout probability set to `dropout`."""
    config = transformers.AutoConfig.from_pretrained(str(source))
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, int | float):
            setattr(config, name, dropout)
    return config
