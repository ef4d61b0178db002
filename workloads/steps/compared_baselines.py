"""The baselines that a report of query classification compares with, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from raylevance.artifacts import Artifact
from raylevance.inference.encoder import NamedEncoder
from raylevance.models.encoder import EncoderSettings
from raylevance.training.tasks.classification import ClassificationSettings
from workloads.steps.classification_baselines import Baseline, LinearTfIdf, Majority, NearestLabel, NearestProducts
from workloads.steps.neural_baselines import PlainEncoder, SetFit, Smgcn, TokenNetwork
from workloads.steps.token_networks import Lsan, XmlCnn


@dataclass(frozen=True)
class BaselineInputs:
    """Inputs of the baselines."""

    encoder: NamedEncoder
    """The backbone, untrained."""
    products: pa.Table | None
    """The products of the shop; None without one."""
    training: ClassificationSettings
    """The steps and rates of those that train a network."""
    seed: int


BASELINES: Mapping[str, Callable[[BaselineInputs], Baseline | None]] = {
    "majority": lambda _: Majority(),
    "nearest label": lambda given: NearestLabel(given.encoder),
    "vote of 20 products": lambda given: _vote(given),
    "linear on tf-idf": lambda given: LinearTfIdf(seed=given.seed),
    "plain encoder": lambda given: PlainEncoder(given.encoder, given.training, given.seed),
    "SetFit": lambda given: SetFit(given.encoder, given.training, given.seed),
    "XML-CNN": lambda given: TokenNetwork(XmlCnn, given.encoder, given.training, given.seed),
    "LSAN": lambda given: TokenNetwork(Lsan, given.encoder, given.training, given.seed),
    "SMGCN": lambda given: Smgcn(given.encoder, given.training, given.seed),
}
"""Makes each baseline; None where it can't be measured."""
CHEAP = ("majority", "nearest label", "vote of 20 products", "linear on tf-idf")
"""Those that train no network."""


@dataclass(frozen=True)
class Compared:
    """Baselines of a report, and what they are made from."""

    tables: Artifact | None
    """The shop, whose products vote; None without one."""
    baselines: tuple[str, ...]
    encoder: EncoderSettings
    training: ClassificationSettings
    label: str | None
    """The id of the label whose neighbourhood a page shows."""


def _vote(given: BaselineInputs) -> NearestProducts | None:
    return None if given.products is None else NearestProducts(given.encoder, given.products)
