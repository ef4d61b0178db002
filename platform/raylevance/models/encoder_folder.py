"""Read and write the folder of an encoder, which `sentence_transformers.SentenceTransformer(folder)` opens too.

The modules of a tied encoder are Transformer -> Pooling (-> Router of two Dense heads) -> Normalize. An untied encoder
is a Router of two towers Transformer -> Pooling (-> Dense), followed by Normalize. `encode_query` of
sentence-transformers takes the query route, `encode_document` and `encode` take the document route. Weights are stored
as safetensors.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from transformers.utils.hub import cached_file

from raylevance.errors import RaylevanceError
from raylevance.hugging_face import read_config_with_dropout, without_load_report
from raylevance.models.tokenizer import Side

MODULES = "modules.json"
TOWER_CONFIG = "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
WEIGHTS = "model.safetensors"
TIED_ROUTER = "2_Router"
ROUTES: dict[Side, str] = {"query": "query", "item": "document"}


def read_json(source: str, name: str) -> Any:
    """Return the content of the JSON file `name` in a local folder or a hub repository, or None if it is not there."""
    file = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return json.loads(Path(file).read_text(encoding="utf-8")) if file else None


def write_json(file: Path, value: object) -> None:
    """Write `value` as indented JSON to `file`, and create its folder if needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2), encoding="utf-8")


def check_pools_by_mean(source: str) -> None:
    """Raise `RaylevanceError` if a sentence-transformers folder does more than mean pooling and normalisation.

    `Encoder` could not reproduce the vectors of such a model.
    """
    for module in read_json(source, MODULES) or []:
        kind = module["type"].rpartition(".")[2]
        if kind == "Pooling":
            pooling = read_json(source, f"{module['path']}/config.json") or {}
            modes = [name.removeprefix("pooling_mode_") for name, on in pooling.items() if on is True]
            mode = pooling.get("pooling_mode") or ",".join(mode for mode in modes if mode != "include_prompt")
            if mode not in ("mean", "mean_tokens"):
                raise RaylevanceError(f"{source}: pools by {mode}; only encoders that pool by mean are supported")
        elif kind not in ("Transformer", "Normalize"):
            raise RaylevanceError(f"{source}: has a {kind} module; only transformer, mean pooling, norm are supported")


def read_encoder_config(source: str | Path, dropout: float | None = None) -> Any:
    """Return the configuration of the transformer at `source`, with every dropout probability set to `dropout`, if any.

    Raises `RaylevanceError` for a model of an encoder and a decoder, such as T5, which has no one vector for a token.
    """
    if dropout is None:
        config = transformers.AutoConfig.from_pretrained(str(source))
    else:
        config = read_config_with_dropout(source, dropout)
    if config.is_encoder_decoder:
        kind = config.model_type
        raise RaylevanceError(f"{source}: is an encoder-decoder model ({kind}); give an encoder, such as BERT")
    return config


def read_tower(source: str | Path, dropout: float) -> Any:
    """Return the transformer at `source` in float32, with every dropout probability set to `dropout`.

    Raises `RaylevanceError` as `read_encoder_config` does, and if weights are missing, apart from a pooler, which is
    not used. Hugging Face would put random ones in their place.
    """
    config = read_encoder_config(source, dropout)
    options = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    with without_load_report():
        tower, loaded = transformers.AutoModel.from_pretrained(str(source), config=config, **options)
    missing = sorted(name for name in loaded["missing_keys"] if "pooler" not in name)
    if missing:
        raise RaylevanceError(f"{source}: lacks {len(missing)} weights, such as {missing[0]}; copy the model again")
    return tower


def read_head(folder: Path) -> torch.nn.Linear:
    """Return the projection head in `folder`, a linear layer without bias."""
    weight = safetensors.torch.load_file(folder / WEIGHTS)["linear.weight"]
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    head.weight.data.copy_(weight)
    return head


def tower_path(folder: Path, side: Side, tied: bool) -> Path:
    """Return where the transformer of `side` is in an encoder's folder."""
    return folder if tied else folder / _route_module(side, 0, "Transformer")


def head_path(folder: Path, side: Side, tied: bool) -> Path:
    """Return where the projection head of `side` is in an encoder's folder."""
    return folder / TIED_ROUTER / _route_module(side, 0, "Dense") if tied else folder / _route_module(side, 2, "Dense")


def write_tower(folder: Path, model: Any, tokenizer: Any, max_tokens: int) -> None:
    """Write a transformer and its tokenizer to `folder`, with a limit of `max_tokens` for sentence-transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    # The tokenizer would save the truncation and padding of its last call, so that equal encoders had unequal files.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)
    write_json(folder / TOWER_CONFIG, {"max_seq_length": max_tokens, "do_lower_case": False})


def write_head(folder: Path, head: torch.nn.Linear) -> None:
    """Write a projection head to `folder`, as a Dense module of sentence-transformers."""
    config = {
        "in_features": head.in_features,
        "out_features": head.out_features,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    write_json(folder / "config.json", config)
    safetensors.torch.save_file({"linear.weight": head.weight.detach().contiguous()}, folder / WEIGHTS)


def write_tied_layout(folder: Path, hidden: int, heads: bool) -> None:
    """Write the module list, pooling and router for a tied tower in `folder`, and for its heads if `heads`."""
    _write_pooling(folder / "1_Pooling", hidden)
    router = [(TIED_ROUTER, "Router")] if heads else []
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *router, (f"{2 + heads}_Normalize", "Normalize")]
    _write_modules(folder, modules)
    if heads:
        _write_router(folder / TIED_ROUTER, ["Dense"])


def write_untied_layout(folder: Path, hidden: int, heads: bool) -> None:
    """Write the module list, poolings and router for two towers in `folder`, and for their heads if `heads`."""
    for side in ROUTES:
        _write_pooling(folder / _route_module(side, 1, "Pooling"), hidden)
    _write_modules(folder, [("", "Router"), ("1_Normalize", "Normalize")])
    _write_router(folder, ["Transformer", "Pooling", "Dense"] if heads else ["Transformer", "Pooling"])


def _write_pooling(folder: Path, hidden: int) -> None:
    modes = dict.fromkeys(("cls_token", "max_tokens", "mean_sqrt_len_tokens"), False) | {"mean_tokens": True}
    config = {f"pooling_mode_{name}": on for name, on in modes.items()}
    write_json(folder / "config.json", {"word_embedding_dimension": hidden, **config})


def _write_modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    """Write the module list. `modules` are pairs of path and class, in order."""
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": _module_type(kind)}
        for index, (path, kind) in enumerate(modules)
    ]
    write_json(folder / MODULES, listed)


def _write_router(folder: Path, kinds: list[str]) -> None:
    """Write a router with a query route and a document route, each with its own modules of the classes `kinds`."""
    structure = {
        route: [_route_module(side, position, kind) for position, kind in enumerate(kinds)]
        for side, route in ROUTES.items()
    }
    types = {name: _module_type(name.rpartition("_")[2]) for names in structure.values() for name in names}
    parameters = {"default_route": ROUTES["item"], "allow_empty_key": True}
    write_json(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})


def _route_module(side: Side, position: int, kind: str) -> str:
    return f"{ROUTES[side]}_{position}_{kind}"


def _module_type(kind: str) -> str:
    return f"sentence_transformers.models.{kind}"
