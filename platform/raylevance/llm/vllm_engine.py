"""vLLM through Ray Data: one engine a machine on processors, or one a GPU; one that dies or hangs is replaced."""

import asyncio
import functools
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import psutil
import pyarrow as pa
import ray
import ray.data
from pydantic import Field, PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.llm.language_model import ANSWERS, Request
from raylevance.llm.prompt_text import single_tokens

CPU_KV_CACHE_GIB = 2
CPU_BLOCK = 32
"""Tokens of a block of the KV cache, the least that its attention takes on every processor. The default of 128 caches
little of a shared prompt, which is cached in whole blocks."""

KILLED = re.compile(r"Failed core proc\(s\): \{(\}|'EngineCore\w*': -\d)")
"""In vLLM's error: an engine that a signal ended while it started, or whose end was not yet known."""


class VllmSettings(Settings):
    """How the engine runs. `model`: a folder or a Hugging Face id.

    `engines`: machines (on processors) or groups of GPUs that work at once. `gpus`: of one engine, 0 for processors.
    `stuck_after_s`: an engine that answers nothing for so long is replaced, and so is one that takes longer than
    `started_within_s` to start. `engine`: more of vLLM's own arguments.
    """

    model: str
    engines: PositiveInt = 1
    gpus: int = Field(0, ge=0)
    max_model_len: PositiveInt = 2048
    max_num_seqs: PositiveInt = 64
    stuck_after_s: PositiveFloat = 300
    started_within_s: PositiveFloat = 1800
    engine: Mapping[str, Any] = {}


class VllmModel:
    """A `LanguageModel` on engines that Ray Data starts, feeds and restarts."""

    def __init__(self, settings: VllmSettings) -> None:
        self.settings = settings

    def answer(self, prompts: ray.data.Dataset, request: Request) -> ray.data.Dataset:
        """Rows of `ANSWERS` for rows of `PROMPTS`. Raises `RaylevanceError` where the engines have no room."""
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        settings = self.settings
        _check_room(settings)
        config = vLLMEngineProcessorConfig(
            model_source=settings.model,
            engine_kwargs=engine_arguments(settings),
            runtime_env={"env_vars": environment(settings)},
            placement_group_config=None if settings.gpus else {"bundles": [{"CPU": 1}]},
            concurrency=(settings.engines, settings.engines),
            batch_size=settings.max_num_seqs // 2 or 1,
            max_concurrent_batches=4,
            should_continue_on_error=True,
            log_engine_metrics=False,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        )
        asked = functools.partial(_as_request, parameters=sampling_parameters(settings.model, request))
        processor = build_processor(config, preprocess=asked)
        stage = processor.get_stage_by_name("vLLMEngineStage")
        # Past pydantic: validated again, the stage would forget the bundles and ask for a GPU.
        stage.__dict__["fn"] = watched_engine(settings.stuck_after_s, settings.started_within_s)
        answers = processor(prompts)
        return answers.map_batches(cast(Any, _as_answers), batch_format="pyarrow", batch_size=None)


def sampling_parameters(model: str, request: Request) -> dict[str, Any]:
    """vLLM's own parameters of `request`. Raises `RaylevanceError` for a choice that is not one token of its own."""
    parameters: dict[str, Any] = {"max_tokens": request.max_tokens, "temperature": request.temperature}
    if request.choices:
        ids = list(single_tokens(load_tokenizer(model), request.choices))
        # Only these can be sampled, and exactly these are scored: the answer is always valid.
        return parameters | {"max_tokens": 1, "allowed_token_ids": ids, "logprob_token_ids": ids}
    if request.json_schema:
        # As text: between Ray's stages a nested dict becomes an Arrow struct, and its lists arrays.
        parameters["structured_outputs"] = {"json": json.dumps(request.json_schema)}
    return parameters | {"stop": list(request.stop), "seed": request.seed}


@functools.lru_cache(maxsize=4)
def load_tokenizer(model: str) -> Any:
    """The tokenizer of `model`, a folder or a Hugging Face id. Raises `RaylevanceError` where there is none."""
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise RaylevanceError(f"{model}: no readable tokenizer: {' '.join(str(error).split())[:200]}") from None


def watched_engine(stuck_after_s: float, started_within_s: float) -> Any:
    """Ray's vLLM stage whose answers are small, and whose process ends where the engine is stuck.

    Ray Data starts another in its place, and gives it the rows that were in flight. An engine that ends while it starts
    is started once more here: Ray takes an actor that can't start for a fault of the job.
    """
    from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

    class WatchedEngine(vLLMEngineStageUDF):
        _waiting = 0
        _last_answer = 0.0

        def __init__(self, *args: Any, **options: Any) -> None:
            try:
                self._start(*args, **options)
            except RuntimeError as error:
                if not KILLED.search(str(error)):
                    raise
                self._start(*args, **options)

        def _start(self, *args: Any, **options: Any) -> None:
            with _children_killed_after(started_within_s):
                super().__init__(*args, **options)

        async def _generate_with_error_handling(self, row: dict[str, Any], batch_uuid: Any) -> dict[str, Any]:
            ids = row["sampling_params"].get("logprob_token_ids")
            if not self._waiting:
                self._last_answer = time.monotonic()
            self._waiting += 1
            answering = asyncio.ensure_future(super()._generate_with_error_handling(row, batch_uuid))
            while not (await asyncio.wait({answering}, timeout=stuck_after_s / 4))[0]:
                if time.monotonic() - self._last_answer > stuck_after_s:
                    _end_process()
            self._waiting -= 1
            self._last_answer = time.monotonic()
            output = answering.result()
            return {
                self.IDX_IN_BATCH_COLUMN: output[self.IDX_IN_BATCH_COLUMN],
                "answer": {
                    "text": None if ids is not None else output["generated_text"],
                    "log_probabilities": _of_choices(output["logprobs"], ids),
                    "tokens": output["num_input_tokens"] + output["num_generated_tokens"],
                    "error": output["__inference_error__"],
                },
            }

    return WatchedEngine


@contextmanager
def _children_killed_after(seconds: float) -> Iterator[None]:
    """The block's child processes end where it takes longer: vLLM waits for its engine without a limit."""
    timer = threading.Timer(seconds, _kill_children)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_process() -> None:
    """End this actor's process and the engine's, which may be stopped and would outlive it."""
    _kill_children()
    os._exit(1)


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        child.kill()


def _of_choices(logprobs: list[dict[int, dict[str, Any]]] | None, ids: Any) -> list[float] | None:
    """Log-probabilities of the tokens `ids` at the one position, summing to 1 as probabilities."""
    if ids is None or not logprobs:
        return None
    values = np.array([logprobs[0][int(token)]["logprob"] for token in ids])
    normalised: list[float] = (values - np.logaddexp.reduce(values)).tolist()
    return normalised


def _as_request(row: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row["prompt"], "sampling_params": dict(parameters)}


def _as_answers(batch: pa.Table) -> pa.Table:
    rows = zip(batch["key"].to_pylist(), batch["answer"].to_pylist(), strict=True)
    return pa.Table.from_pylist([{"key": key, **answer} for key, answer in rows], schema=ANSWERS)


def engine_arguments(settings: VllmSettings) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # A small model may else fill its JSON with white space to the last token.
        "structured_outputs_config": {"disable_any_whitespace": True, "backend": "xgrammar"},
    }
    if settings.gpus:
        arguments["tensor_parallel_size"] = settings.gpus
    else:
        arguments |= {"enforce_eager": True, "block_size": CPU_BLOCK, "dtype": cpu_dtype()}
    return arguments | dict(settings.engine)


def cpu_dtype() -> str:
    """The number format: the model's own where processors compute in bfloat16, which is else emulated, and slow."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return "auto" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


def environment(settings: VllmSettings) -> dict[str, str]:
    """On processors: the KV cache's size, and all of a machine's processors for its engine (vLLM leaves one out)."""
    variables = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if settings.gpus:
        return variables
    return variables | {
        "VLLM_CPU_KVCACHE_SPACE": str(CPU_KV_CACHE_GIB),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
        # Compiling takes 15 to 20 s of the first batch on two cores, and saves nothing after it.
        "TORCH_COMPILE_DISABLE": "1",
    }


def _check_room(settings: VllmSettings) -> None:
    """Refuse engines that Ray would wait for for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if settings.gpus:
        fits = int(sum(node.get("GPU", 0) // settings.gpus for node in nodes))
        what = f"{settings.gpus} GPU"
    else:
        fits, what = sum(node.get("CPU", 0) >= 1 for node in nodes), "a machine"
    if fits < settings.engines:
        raise RaylevanceError(f"engines={settings.engines} with {what} each: the cluster has room for {fits}")
