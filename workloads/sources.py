"""Where tables come from: files imported and checked, or the generated demo shop."""

import os
from pathlib import Path
from typing import Any, Literal

from raylevance.artifacts import Artifact, Draft, Store, hash_files
from raylevance.config import Settings
from raylevance.data.demo import DemoSettings, generate
from raylevance.errors import RaylevanceError, UsageError, nearest
from workloads.cluster import connected
from workloads.steps import Run, say

DATA_BESIDE_THE_CHECKOUT = Path(__file__).parents[2] / "shared" / "data"


class DataSettings(Settings):
    """What a recipe learns from. `auto`: ESCI at `folder`, RAYLEVANCE_DATA or ../shared/data, else the demo shop."""

    source: Literal["auto", "esci", "demo"] = "auto"
    folder: Path | None = None
    locale: str = "us"
    on_bad_row: Literal["stop", "quarantine"] = "stop"
    demo: DemoSettings = DemoSettings()
