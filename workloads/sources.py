"""Where a recipe's tables come from: public files imported, or the generated demo shop."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.config import Settings
from raylevance.data.demo import DemoSettings
from raylevance.errors import RaylevanceError, UsageError, nearest
from workloads.cluster import connected
from workloads.steps import Run

DATA_BESIDE_THE_CHECKOUT = Path(__file__).parents[2] / "shared" / "data"
