"""Examine what this machine has for the work, and say what to do where something is missing."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raylevance.artifacts import Store
from raylevance.cluster import connected, count_cpus, count_gpus
from raylevance.errors import RaylevanceError
from raylevance.inference.encoder import backbone_path
from workloads.steps.tables import DataSettings, locate

LEAST_FREE_GB = 5


@dataclass(frozen=True)
class Finding:
    """The result of one check; `ok` is False only when `raylevance run` would not work."""

    subject: str
    ok: bool
    text: str


def examine(store: str) -> list[Finding]:
    """Run every check in turn. A check that fails is a finding, never an exception."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", lambda: sys.version.split()[0]),
        ("packages", _packages),
        ("processor", _processor),
        ("disk", _disk),
        ("store", lambda: _store(store)),
        ("data", _data),
        ("backbone", _backbone),
        ("ray", _ray),
    ]
    return list(_findings(checks))


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings as JSON, and whether all are well."""
    return {"ok": all(finding.ok for finding in findings), "findings": [asdict(finding) for finding in findings]}


def _findings(checks: list[tuple[str, Callable[[], str]]]) -> Iterator[Finding]:
    for subject, check in checks:
        try:
            yield Finding(subject, True, check())
        except RaylevanceError as error:
            yield Finding(subject, False, str(error))
        except Exception as error:
            yield Finding(subject, False, f"{type(error).__name__}: {error}")


def _packages() -> str:
    missing = [name for name in ("faiss", "bm25s", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise RaylevanceError(f"not installed: {', '.join(missing)}; install raylevance[cpu] or raylevance[gpu]")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "ray", "transformers", "pyarrow")]
    if importlib.util.find_spec("vllm") is None:
        versions.append("no vLLM (only language models need it: raylevance[llm-cpu] or raylevance[llm-gpu])")
    return ", ".join(versions)


def _processor() -> str:
    import torch

    from raylevance.models.precision import autocast_dtype

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    dtype = autocast_dtype(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return f"{_counted(os.cpu_count() or 1, 'core')}, {device}, {'bfloat16' if dtype else 'float32'}"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < LEAST_FREE_GB:
        raise RaylevanceError(f"{free:.1f} GB free here; at least {LEAST_FREE_GB} GB are needed")
    return f"{free:.0f} GB free"


def _store(root: str) -> str:
    store = Store(root)
    faults = [fault for name in store.names() for fault in store.versions(name)[1]]
    if faults:
        raise RaylevanceError(faults[0])
    return f"{store}: {_counted(len(store.artifacts()), 'version')} of {_counted(len(store.names()), 'artifact')}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _data() -> str:
    source, folder = locate(DataSettings())
    return f"{source} at {folder}" if folder else "none found: recipes use the generated demo shop"


def _backbone() -> str:
    return f"MiniLM (22M) at {backbone_path('minilm')}"


def _ray() -> str:
    with connected():
        return f"starts; {_counted(count_cpus(), 'CPU')}, {_counted(count_gpus(), 'GPU')}"
