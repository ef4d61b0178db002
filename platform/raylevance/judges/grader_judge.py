"""A judge that is a grader of its own, such as a cross-encoder, held by Ray Data actors."""

import functools
from collections.abc import Callable
from typing import Any, cast

import pyarrow as pa
import ray.data

from raylevance.cluster import alive_nodes, count_gpus, cpus_per_node
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.judge import Judge
from raylevance.judges.match_regression import MatchRegression
from raylevance.llm.language_model import ANSWERS

GRADERS: dict[str, Callable[[str], Any]] = {"cross-encoder": CrossEncoder.load, "regression": MatchRegression.load}
"""How to load a grader from its folder, by its name in `JudgeSettings.backend`."""


def grader_judge(backend: str, folder: str) -> Judge:
    """Return the judge that grades with the grader in `folder`; `backend` is a key of `GRADERS`.

    It runs one actor per GPU, or without GPUs one per node with all of the node's CPUs.
    """
    return functools.partial(_grade_on_cluster, backend=backend, folder=folder)


def _grade_on_cluster(pairs: ray.data.Dataset, backend: str, folder: str) -> ray.data.Dataset:
    gpus = count_gpus()
    return pairs.map_batches(
        cast(Any, _GraderActor),
        fn_constructor_args=(backend, folder, cpus_per_node()),
        batch_format="pyarrow",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=gpus or len(alive_nodes())),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )


class _GraderActor:
    """A Ray Data actor with a grader, which maps rows of `PAIRS` to rows of `ANSWERS`."""

    def __init__(self, backend: str, folder: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._grader = GRADERS[backend](folder).to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, pairs: pa.Table) -> pa.Table:
        queries, texts = pairs["query"].to_pylist(), pairs["product_text"].to_pylist()
        no_text = pa.nulls(len(queries), pa.string())
        columns = {
            "key": pairs["key"],
            "log_probabilities": list(self._grader.log_probabilities(queries, texts)),
            "tokens": [len(ids) for ids in self._grader.tokenize(queries, texts)],
            "text": no_text,
            "error": no_text.fill_null(""),
        }
        return pa.table(columns).select(ANSWERS.names).cast(ANSWERS)
