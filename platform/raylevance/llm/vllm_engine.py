"""vLLM engines on Ray Data, one per machine or per group of GPUs. An engine that dies or hangs is replaced."""

import asyncio
import functools
import importlib.util
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import numpy as np
import psutil
import pyarrow as pa
import ray.data
from pydantic import Field, PositiveFloat, PositiveInt

from raylevance.cluster import check_room
from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.llm.language_model import ANSWERS, Request
from raylevance.llm.prompt_text import single_tokens

CPU_KV_CACHE_GIB = 2
"""Memory of an engine's KV cache on CPUs, in GiB."""

CPU_CACHE_BLOCK_TOKENS = 32
"""Tokens per block of the KV cache: the least that vLLM's attention accepts on every CPU. A shared prompt is cached in
whole blocks, so the default of 128 would cache little of it."""

ENGINE_KILLED = re.compile(r"Failed core proc\(s\): \{(\}|'EngineCore\w*': -\d)")
"""Matches vLLM's error about an engine that a signal ended while it started, or whose exit status is not yet known."""


class VllmSettings(Settings):
    """The vLLM engines that answer prompts."""

    model: str
    """A folder of a language model, or a Hugging Face id."""
    engines: PositiveInt = 1
    """The number of engines that work at once, each on a machine (CPUs) or on a group of GPUs."""
    gpus: int = Field(0, ge=0)
    """The number of GPUs of one engine; 0 runs it on CPUs."""
    max_model_len: PositiveInt = 2048
    """The largest number of tokens of a prompt with its answer."""
    max_num_seqs: PositiveInt = 64
    """The largest number of prompts that one engine processes at the same time."""
    stuck_after_s: PositiveFloat = 300
    """An engine that gives no answer for so many seconds is replaced."""
    started_within_s: PositiveFloat = 1800
    """An engine that takes more seconds than this to start is replaced."""
    engine: Mapping[str, Any] = {}
    """More of vLLM's engine arguments, under vLLM's names. They replace ours."""

    EXECUTION: ClassVar[frozenset[str]] = frozenset({"engines", "stuck_after_s", "started_within_s"})
    """The settings that decide how the engines are run, and not what they answer."""

    def answer_settings(self) -> dict[str, Any]:
        """Return the settings that decide the answers, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.EXECUTION))


class VllmModel:
    """A `LanguageModel` on vLLM engines that Ray Data starts, feeds and restarts.

    Raises `RaylevanceError` if vLLM is not installed.
    """

    def __init__(self, settings: VllmSettings) -> None:
        check_vllm_installed()
        self.settings = settings

    def answer(self, prompts: ray.data.Dataset, request: Request) -> ray.data.Dataset:
        """Map rows of `PROMPTS` to rows of `ANSWERS`.

        Raises `RaylevanceError` if the cluster has no room for the engines.
        """
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        settings = self.settings
        if settings.gpus:
            check_room("engines", settings.engines, gpus=settings.gpus)
        else:
            check_room("engines", settings.engines, cpus=1, one_per_node=True)
        config = vLLMEngineProcessorConfig(
            model_source=settings.model,
            engine_kwargs=engine_arguments(settings),
            runtime_env={"env_vars": engine_environment(settings)},
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
        preprocess = functools.partial(_engine_row, parameters=sampling_parameters(settings.model, request))
        processor = build_processor(config, preprocess=preprocess)
        stage = processor.get_stage_by_name("vLLMEngineStage")
        # Assignment would validate the stage again, which then loses the placement bundles and requires a GPU.
        stage.__dict__["fn"] = supervised_engine(settings)
        answers = processor(prompts)
        return answers.map_batches(cast(Any, _answer_table), batch_format="pyarrow", batch_size=None)


def check_vllm_installed() -> None:
    """Raise `RaylevanceError` if vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise RaylevanceError("vLLM is not installed: install raylevance[llm-cpu], or raylevance[llm-gpu] for GPUs")


def sampling_parameters(model: str, request: Request) -> dict[str, Any]:
    """Return vLLM's sampling parameters for a request to `model`, a folder or a Hugging Face id.

    Raises `RaylevanceError` if a choice is not a single token of the model, or its tokenizer can't be read.
    """
    parameters: dict[str, Any] = {"max_tokens": request.max_tokens, "temperature": request.temperature}
    if request.choices:
        ids = list(single_tokens(load_causal_tokenizer(model), request.choices))
        # Only these tokens can be sampled, and exactly these are scored, so the answer is always one of the choices.
        return parameters | {"max_tokens": 1, "allowed_token_ids": ids, "logprob_token_ids": ids}
    if request.json_schema:
        # Passed as text, since between Ray's stages a nested dict becomes an Arrow struct, and its lists arrays.
        parameters["structured_outputs"] = {"json": json.dumps(request.json_schema)}
    return parameters | {"stop": list(request.stop), "seed": request.seed}


@functools.lru_cache(maxsize=4)
def load_causal_tokenizer(model: str) -> Any:
    """Return the tokenizer of a language model, a folder or a Hugging Face id.

    Raises `RaylevanceError` if it has no readable tokenizer.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise RaylevanceError(f"{model}: no readable tokenizer: {' '.join(str(error).split())[:200]}") from None


def supervised_engine(settings: VllmSettings) -> Any:
    """Return a class that extends Ray's vLLM stage: its process ends when its engine is stuck, and its rows are small.

    On CPUs it takes the number format and all processors of the machine that it runs on.
    Ray Data then starts another process and gives it the rows that were in flight. An engine that is killed while it
    starts is started once more here, because Ray fails the whole job when an actor can't start.
    """
    from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

    class SupervisedEngine(vLLMEngineStageUDF):
        """Ray's vLLM stage, which ends its own process when the engine is stuck."""

        _rows_in_flight = 0
        _last_answer_at = 0.0

        def __init__(self, *args: Any, **options: Any) -> None:
            if not settings.gpus:
                os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{(os.cpu_count() or 1) - 1}"
                options["engine_kwargs"] = {"dtype": cpu_dtype(), **options["engine_kwargs"]}
            try:
                self._start(*args, **options)
            except RuntimeError as error:
                if not ENGINE_KILLED.search(str(error)):
                    raise
                self._start(*args, **options)

        def _start(self, *args: Any, **options: Any) -> None:
            with _children_killed_after(settings.started_within_s):
                super().__init__(*args, **options)

        async def _generate_with_error_handling(self, row: dict[str, Any], batch_uuid: Any) -> dict[str, Any]:
            ids = row["sampling_params"].get("logprob_token_ids")
            if not self._rows_in_flight:
                self._last_answer_at = time.monotonic()
            self._rows_in_flight += 1
            generation = asyncio.ensure_future(super()._generate_with_error_handling(row, batch_uuid))
            while not (await asyncio.wait({generation}, timeout=settings.stuck_after_s / 4))[0]:
                if time.monotonic() - self._last_answer_at > settings.stuck_after_s:
                    _end_process()
            self._rows_in_flight -= 1
            self._last_answer_at = time.monotonic()
            output = generation.result()
            return {
                self.IDX_IN_BATCH_COLUMN: output[self.IDX_IN_BATCH_COLUMN],
                "answer": {
                    "text": None if ids is not None else output["generated_text"],
                    "log_probabilities": _choice_log_probabilities(output["logprobs"], ids),
                    "tokens": output["num_input_tokens"] + output["num_generated_tokens"],
                    "error": output["__inference_error__"],
                },
            }

    return SupervisedEngine


@contextmanager
def _children_killed_after(seconds: float) -> Iterator[None]:
    """Kill the child processes if the block takes longer than `seconds`: vLLM waits for its engine without a limit."""
    timer = threading.Timer(seconds, _kill_children)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_process() -> None:
    """End this actor's process, and its engine's before it, since an engine that a signal stopped would live on."""
    _kill_children()
    os._exit(1)


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        child.kill()


def _choice_log_probabilities(logprobs: list[dict[int, dict[str, Any]]] | None, ids: Any) -> list[float] | None:
    """Return the log-probabilities of the tokens `ids`, normalised so that the probabilities sum to 1."""
    if ids is None or not logprobs:
        return None
    values = np.array([logprobs[0][int(token)]["logprob"] for token in ids])
    normalised: list[float] = (values - np.logaddexp.reduce(values)).tolist()
    return normalised


def _engine_row(row: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row["prompt"], "sampling_params": dict(parameters)}


def _answer_table(batch: pa.Table) -> pa.Table:
    rows = zip(batch["key"].to_pylist(), batch["answer"].to_pylist(), strict=True)
    return pa.Table.from_pylist([{"key": key, **answer} for key, answer in rows], schema=ANSWERS)


def engine_arguments(settings: VllmSettings) -> dict[str, Any]:
    """Return vLLM's engine arguments, by vLLM's names."""
    arguments: dict[str, Any] = {
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # Otherwise a small model may fill its JSON with white space up to the last token.
        "structured_outputs_config": {"disable_any_whitespace": True, "backend": "xgrammar"},
    }
    if settings.gpus:
        arguments["tensor_parallel_size"] = settings.gpus
    else:
        arguments |= {"enforce_eager": True, "block_size": CPU_CACHE_BLOCK_TOKENS}
    return arguments | dict(settings.engine)


def cpu_dtype() -> str:
    """Return vLLM's `dtype` on CPUs: `auto` where they compute in bfloat16, else `float32`, as emulation is slow."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return "auto" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


def engine_environment(settings: VllmSettings) -> dict[str, str]:
    """Return the environment variables of an engine's process.

    On CPUs they set the size of the KV cache and reserve no processor; vLLM would leave one out.
    """
    variables = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if settings.gpus:
        return variables
    return variables | {
        "VLLM_CPU_KVCACHE_SPACE": str(CPU_KV_CACHE_GIB),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        # On two cores, compilation takes 15 to 20 s of the first batch and makes later batches no faster.
        "TORCH_COMPILE_DISABLE": "1",
    }
