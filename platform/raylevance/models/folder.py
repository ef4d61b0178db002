"""The folder of an encoder, which `sentence_transformers.SentenceTransformer(folder)` opens too.

A tied encoder is Transformer -> Pooling (-> Router of two Dense heads) -> Normalize; an untied one is a
Router of two such towers, then Normalize. `encode_query` takes the query route, `encode_document` and
`encode` the item route. The text towers are ordinary Hugging Face folders; every weight is safetensors.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from safetensors import SafetensorError

from raylevance.errors import RaylevanceError

MODULES = "modules.json"
TOWER_CONFIG = "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
WEIGHTS = "model.safetensors"


def write_json(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2), encoding="utf-8")


def read_json(folder: str, name: str) -> Any:
    """`name` in a local folder or a hub repository; None where it has none."""
    file = transformers.utils.cached_file(
        folder,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return json.loads(Path(file).read_text(encoding="utf-8")) if file else None


@contextmanager
def one_line_errors(source: str) -> Iterator[None]:
    """What Hugging Face raises for a folder that is not a readable encoder, as one line that names it."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if not Path(source).exists():
            reason = "no such folder, and not an encoder that the Hugging Face hub (or its cache) gives"
        else:
            reason = "not a readable encoder folder: " + " ".join(str(error).split())[:200]
        raise RaylevanceError(f"{source}: {reason}") from None
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def read_tower(source: str, dropout: float) -> Any:
    """The transformer at `source` in float32 with every dropout probability set to `dropout`."""
    config = transformers.AutoConfig.from_pretrained(source)
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, int | float):
            setattr(config, name, dropout)
    return transformers.AutoModel.from_pretrained(source, config=config, use_safetensors=True, dtype=torch.float32)


def write_tower(folder: Path, model: Any, tokenizer: Any, max_tokens: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    tokenizer.save_pretrained(folder)
    write_json(folder / TOWER_CONFIG, {"max_seq_length": max_tokens, "do_lower_case": False})


def write_pooling(folder: Path, dimension: int) -> None:
    write_json(
        folder / "config.json",
        {
            "word_embedding_dimension": dimension,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )


def write_head(folder: Path, head: torch.nn.Linear) -> None:
    write_json(
        folder / "config.json",
        {
            "in_features": head.in_features,
            "out_features": head.out_features,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    safetensors.torch.save_file({"linear.weight": head.weight.detach().contiguous()}, folder / WEIGHTS)


def read_head(folder: Path) -> torch.nn.Linear:
    weight = safetensors.torch.load_file(folder / WEIGHTS)["linear.weight"]
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    head.weight.data.copy_(weight)
    return head


def write_modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    """`modules`: (path, class) in order."""
    write_json(
        folder / MODULES,
        [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
    )


def write_router(folder: Path, kinds: list[str]) -> None:
    """A query route and a document route, each of its own modules of `kinds`, in `<route>_<position>_<kind>`."""
    structure = {route: [route_module(route, i, kind) for i, kind in enumerate(kinds)] for route in ROUTES.values()}
    types = {
        module: f"sentence_transformers.models.{module.rpartition('_')[2]}"
        for modules in structure.values()
        for module in modules
    }
    parameters = {"default_route": ROUTES["item"], "allow_empty_key": True}
    write_json(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})


def route_module(route: str, position: int, kind: str) -> str:
    return f"{route}_{position}_{kind}"


ROUTES = {"query": "query", "item": "document"}


def check_pools_by_mean(source: str) -> None:
    """Refuse a sentence-transformers folder that this encoder would not reproduce: only mean pooling and a norm."""
    for module in read_json(source, MODULES) or []:
        kind = module["type"].rpartition(".")[2]
        if kind == "Pooling":
            pooling = read_json(source, f"{module['path']}/config.json") or {}
            modes = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True]
            mode = pooling.get("pooling_mode") or ",".join(modes)
            if mode not in ("mean", "pooling_mode_mean_tokens"):
                raise RaylevanceError(f"{source}: pools by {mode}; only encoders that pool by mean are supported")
        elif kind not in ("Transformer", "Normalize"):
            raise RaylevanceError(f"{source}: has a {kind} module; only transformer, mean pooling and norm are supported")
