"""The query classifier: one encoder for queries and label texts, and for each task a graph convolution and a head.

Source: SSUF (arXiv 2506.21049), label-enhanced and structure-enhanced modules, and prediction.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import safetensors.torch
import scipy.sparse as sp
import torch
from pydantic import PositiveFloat, PositiveInt
from scipy.special import expit
from torch import nn

from raylevance.config import Settings
from raylevance.data.label_space import LabelSpace
from raylevance.data.normal_form import normal_form
from raylevance.hugging_face import one_line_errors
from raylevance.models import encoder as encoders
from raylevance.models.encoder import Encoder
from raylevance.models.encoder_folder import write_json
from raylevance.models.label_gcn import LabelGCN
from raylevance.models.tokenizer import SideTokenizer

SETTINGS, HEADS, GRAPHS, ENCODER = "classifier.json", "heads.safetensors", "graphs.safetensors", "encoder"
NEUTRAL_COSINE = 0.5
"""The cosine at which an untrained classifier gives a label the probability 1/2 (our choice)."""

Vectors = npt.NDArray[np.float32]
Graphs = Mapping[str, sp.csr_matrix]


class QueryClassifierSettings(Settings):
    """The modules of the classifier, and their size."""

    label_enhanced: bool = True
    """Take the vectors of labels from their texts, through the encoder of the queries; false learns a vector for each
    label from nothing."""
    structure_enhanced: bool = True
    """Pass the vectors of labels through a graph convolution."""
    layers: PositiveInt = 2
    """The layers of the graph convolution (our choice)."""
    scale: PositiveFloat = 20.0
    """The learned factor of the product q H^T at the start: the product of unit vectors alone gives no probability
    above 0.73 (our choice)."""


class LabelHead(nn.Module):
    """The labels of one task: the logits s * q H_l^T + b, where H_l are the predicted labels' rows of the GCN's output.

    Source: SSUF (arXiv 2506.21049), prediction and loss; the learned scale s is our choice.
    """

    def __init__(
        self, predicted: npt.NDArray[np.bool_], dimension: int, graph: sp.csr_matrix | None, settings: Any
    ) -> None:
        """Make a head for the labels of a task, of which those in `predicted` [labels] are predicted."""
        super().__init__()
        self.register_buffer("predicted", torch.from_numpy(np.flatnonzero(predicted)), persistent=False)
        self.predicted: torch.Tensor
        self.bias = nn.Parameter(torch.full((len(self.predicted),), -settings.scale * NEUTRAL_COSINE))
        self.scale = nn.Parameter(torch.tensor(settings.scale))
        self.gcn = LabelGCN(graph, dimension, settings.layers) if graph is not None else None
        free = None if settings.label_enhanced else torch.randn(len(predicted), dimension) * dimension**-0.5
        self.vectors = None if free is None else nn.Parameter(free)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Return s * H_l, [predicted, d], of the vectors [labels, d] of the task's labels."""
        hidden = labels if self.gcn is None else self.gcn(labels)
        rows: torch.Tensor = self.scale * hidden[self.predicted]
        return rows


class QueryClassifier(nn.Module):
    """An encoder of queries and label texts, and a head for each task."""

    def __init__(self, encoder: Encoder, space: LabelSpace, graphs: Graphs, settings: QueryClassifierSettings) -> None:
        """Put new heads on `encoder`. `graphs` are normalised, [labels, labels] of each task, with an edge's receiver
        in the row; without `structure_enhanced` they are not used."""
        super().__init__()
        self.encoder, self.space, self.settings = encoder, space, settings
        self._graphs = dict(graphs) if settings.structure_enhanced else {}
        self.heads = nn.ModuleList(
            LabelHead(space.predicted[space.rows(task)], encoder.dimension, self._graphs.get(task), settings)
            for task in space.tasks
        )

    @classmethod
    def from_encoder(
        cls,
        encoder: str | Path,
        space: LabelSpace,
        graphs: Graphs,
        settings: QueryClassifierSettings,
        seed: int = 0,
    ) -> Self:
        """Return a new classifier on a saved encoder, with random weights by `seed`. Raises as `Encoder.load` does."""
        loaded = Encoder.load(encoder)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return cls(loaded, space, graphs, settings)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the classifier that `save` wrote. Raises `RaylevanceError` if `path` is not a readable classifier."""
        folder = Path(path)
        with one_line_errors(str(path), "query classifier"):
            settings = QueryClassifierSettings(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
            space = LabelSpace.open(folder)
            model = cls(Encoder.load(folder / ENCODER), space, read_graphs(folder / GRAPHS, space), settings)
            model.heads.load_state_dict(safetensors.torch.load_file(folder / HEADS))
        return model

    def save(self, path: str | Path) -> None:
        """Write the classifier to the folder `path`, and delete what was in the folder before."""
        folder = Path(path)
        shutil.rmtree(folder, ignore_errors=True)
        self.encoder.save(folder / ENCODER)
        write_json(folder / SETTINGS, self.settings.model_dump())
        self.space.save(folder)
        heads = {name: tensor.contiguous() for name, tensor in self.heads.state_dict().items()}
        safetensors.torch.save_file(heads, folder / HEADS)
        save_graphs(folder / GRAPHS, self._graphs, self.space)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.encoder.device

    @property
    def default_batch_tokens(self) -> int:
        """The number of tokens, padding included, of one forward pass on this device."""
        return self.encoder.default_batch_tokens

    def label_vectors(self) -> torch.Tensor:
        """Return the vectors C of all labels, float32 [labels, d], without a graph: encoded, or learned."""
        if self.settings.label_enhanced:
            texts = self.space.labels["text"].to_pylist()
            return torch.from_numpy(self.encoder.encode_items(texts)).to(self.device)
        return torch.cat([head.vectors for head in self.task_heads() if head.vectors is not None]).detach()

    def task_heads(self) -> list[LabelHead]:
        """Return the head of each task, in the order of the space's tasks."""
        return cast(list[LabelHead], list(self.heads))

    @torch.no_grad()
    def label_matrices(self) -> list[tuple[Vectors, Vectors]]:
        """Return what prediction needs of each task: s * H_l [predicted, d] and b [predicted], both float32."""
        vectors = self.label_vectors()
        matrices = (
            (head(vectors[self.space.rows(task)]), head.bias)
            for task, head in zip(self.space.tasks, self.task_heads(), strict=True)
        )
        return [(rows.cpu().numpy(), bias.cpu().numpy()) for rows, bias in matrices]

    def probabilities(self, queries: Sequence[str]) -> list[Vectors]:
        """Return for each task the probabilities, float32 [queries, predicted], of queries in their normal form."""
        vectors = self.encoder.encode_queries([normal_form(query) for query in queries])
        return [label_probabilities(vectors, *matrix) for matrix in self.label_matrices()]


def label_probabilities(queries: Vectors, rows: Vectors, bias: Vectors) -> Vectors:
    """Return sigmoid(q H^T + b), float32 [n, labels], of query vectors [n, d], label rows [labels, d] and a bias."""
    probabilities: Vectors = expit(queries @ rows.T + bias)
    return probabilities


def load_classifier_tokenizer(path: str | Path) -> SideTokenizer:
    """Return the tokenizer of the classifier at `path`, without its weights. Raises as `QueryClassifier.load` does."""
    return encoders.load_encoder_tokenizer(Path(path) / ENCODER)


def save_graphs(file: Path, graphs: Graphs, space: LabelSpace) -> None:
    """Write the graphs [labels, labels] of tasks as CSR arrays in safetensors.

    A task is named by its number in `space`, since its own name may be any text.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, task in enumerate(space.tasks):
        if (graph := graphs.get(task)) is not None:
            arrays |= {f"{number}.{part}": getattr(graph, part) for part in ("indptr", "indices", "data")}
    safetensors.numpy.save_file(arrays, file)


def read_graphs(file: Path, space: LabelSpace) -> Graphs:
    """Return what `save_graphs` wrote, by task; a task without a graph is not in it."""
    arrays = safetensors.numpy.load_file(file)
    graphs = {}
    for number, task in enumerate(space.tasks):
        if f"{number}.data" in arrays:
            size = len(arrays[f"{number}.indptr"]) - 1
            parts = tuple(arrays[f"{number}.{part}"] for part in ("data", "indices", "indptr"))
            graphs[task] = sp.csr_matrix(parts, shape=(size, size))
    return graphs
