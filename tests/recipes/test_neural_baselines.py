"""Baselines of query classification that train a network: LSAN against a loop, padding, and what each one learns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.data.query_labels import QUERY_LABELS
from raylevance.inference.encoder import NamedEncoder
from raylevance.training.tasks.classification import ClassificationSettings
from workloads.steps.classification_baselines import Baseline
from workloads.steps.neural_baselines import PlainEncoder, SetFit, Smgcn, TokenNetwork
from workloads.steps.token_networks import Lsan, XmlCnn

NAMES = ["red kettle", "iron pan", "desk lamp"]
QUERIES = [("kettle", 1), ("tea kettle", 1), ("pan", 2), ("frying pan", 2), ("lamp", 3), ("bright lamp", 3)]
TRAINING = ClassificationSettings(batch=6, epochs=1000, max_steps=60, learning_rate=3e-3, head_learning_rate=3e-2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine threads wait for each other longer than these models compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def space() -> LabelSpace:
    """Two tasks, so that rows of the space are not those of the task; the root is not predicted."""
    rows: list[tuple[str, str, str | None, bool]] = [("brand", "acme", None, True), ("category", "Home", None, False)]
    rows += [("category", name, "Home", True) for name in NAMES]
    columns = zip(*((task, name, name, parent, name, own) for task, name, parent, own in rows), strict=True)
    return LabelSpace(pa.table(list(map(list, columns)), schema=LABELS))


def training_rows(labels: list[tuple[str, list[int]]]) -> pa.Table:
    rows = [
        {
            "query": query,
            "task": "category",
            "labels": own,
            "targets": [1.0] * len(own),
            "weight": 1.0,
            "source": "file",
        }
        for query, own in labels
    ]
    rows.append({"query": "acme", "task": "brand", "labels": [0], "targets": [1.0], "weight": 1.0, "source": "file"})
    return pa.Table.from_pylist(rows, QUERY_LABELS)


def learned(baseline: Baseline, space: LabelSpace, rows: list[tuple[str, list[int]]]) -> np.ndarray:
    scores = baseline.scores(training_rows(rows), space, "category", [query for query, _ in rows])
    assert scores.shape == (len(rows), 3) and scores.dtype == np.float32
    assert scores.min() >= 0 and scores.max() <= 1
    return scores


def best_labels(baseline: Baseline, space: LabelSpace) -> list[int]:
    """The label of the highest score for each training query, the same in a second training."""
    rows = [(query, [row + 1]) for query, row in QUERIES]
    scores = learned(baseline, space, rows)
    np.testing.assert_array_equal(scores, learned(baseline, space, rows))
    best: list[int] = (scores.argmax(axis=1) + 1).tolist()
    return best


@pytest.mark.parametrize("name", ["plain", "xml-cnn", "lsan"])
def test_a_baseline_learns_its_training_queries(name: str, space: LabelSpace, tiny_backbone: Path) -> None:
    encoder = NamedEncoder(tiny_backbone, None, None)
    # Their own rates, which they keep, are lower.
    longer = TRAINING.model_copy(update={"max_steps": 200})
    baselines: dict[str, Baseline] = {
        "plain": PlainEncoder(encoder, TRAINING, 0),
        "xml-cnn": TokenNetwork(XmlCnn, encoder, longer, 0),
        "lsan": TokenNetwork(Lsan, encoder, longer, 0),
    }
    assert best_labels(baselines[name], space) == [row for _, row in QUERIES]


@pytest.mark.ray
def test_smgcn_learns_its_training_queries(space: LabelSpace, tiny_backbone: Path, ray_cluster: None) -> None:
    baseline = Smgcn(NamedEncoder(tiny_backbone, None, None), TRAINING, 0)
    assert best_labels(baseline, space) == [row for _, row in QUERIES]


@pytest.mark.ray
def test_smgcn_reads_no_knowledge(
    space: LabelSpace, tiny_backbone: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "workloads.steps.neural_baselines.train_here",
        lambda model, rows, settings, seed: read.extend(rows.column_names),
    )
    rows = training_rows([(query, [row + 1]) for query, row in QUERIES])
    known = rows.append_column("knowledge", pa.array([["kettle"]] * rows.num_rows))
    Smgcn(NamedEncoder(tiny_backbone, None, None), TRAINING, 0).scores(known, space, "category", ["kettle"])
    assert set(read) == set(QUERY_LABELS.names)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_baseline_has_the_precision_of_its_settings(
    precision: str, space: LabelSpace, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype | None] = []
    monkeypatch.setattr("workloads.steps.neural_baselines.prepare_encoders", lambda replica, dtype: seen.append(dtype))
    settings = TRAINING.model_copy(update={"max_steps": 1, "precision": precision})
    rows = training_rows([(query, [row + 1]) for query, row in QUERIES])
    PlainEncoder(NamedEncoder(tiny_backbone, None, None), settings, 0).scores(rows, space, "category", ["a"])
    assert seen == [{"fp32": None, "bf16": torch.bfloat16}[precision]]


@pytest.mark.parametrize("several", [False, True])
def test_setfit_leaves_labels_without_a_query_at_0(several: bool, space: LabelSpace, tiny_backbone: Path) -> None:
    pytest.importorskip("setfit")
    rows = [(query, [row + 1]) for query, row in QUERIES[:4]]
    if several:
        rows.append(("kettle and pan", [2, 3]))
    settings = TRAINING.model_copy(update={"max_steps": 2})
    scores = learned(SetFit(NamedEncoder(tiny_backbone, None, None), settings, 0), space, rows)
    assert (scores[:, 2] == 0).all() and (scores[:, :2] > 0).all()


def test_setfit_tells_rare_labels_from_a_frequent_one(space: LabelSpace, tiny_backbone: Path) -> None:
    pytest.importorskip("setfit")
    frequent = [f"{word} kettle" for word in ("tea", "new", "red", "big", "small", "bright")]
    rows = [*((query, [2]) for query in frequent), ("frying pan", [3])]
    settings = TRAINING.model_copy(update={"max_steps": 2})
    scores = learned(SetFit(NamedEncoder(tiny_backbone, None, None), settings, 0), space, rows)
    assert scores.argmax(axis=1).tolist() == [0] * len(frequent) + [1]


def network(kind: type[XmlCnn] | type[Lsan]) -> XmlCnn | Lsan:
    torch.manual_seed(0)
    return kind(torch.randn(30, 8), [[3, 4], [5], [6, 7, 8]]).eval()


@pytest.mark.parametrize("kind", [XmlCnn, Lsan])
def test_a_query_is_the_same_alone_and_beside_longer_ones(kind: type[XmlCnn] | type[Lsan]) -> None:
    queries = [[3, 9], [5, 6, 7, 8, 9, 10, 11], [4], list(range(3, 28))]
    with torch.no_grad():
        together = network(kind)(queries)
        alone = torch.cat([network(kind)([query]) for query in queries])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 1e-4


def test_lsan_is_its_formulas() -> None:
    """Attention of each label, one at a time, from the states of the LSTM, in float64."""
    lsan = network(Lsan).double()
    assert isinstance(lsan, Lsan)
    query = [3, 9, 12]
    with torch.no_grad():
        states = lsan.lstm(lsan.tokens(torch.tensor([query])))[0][0]
        half = lsan.HIDDEN
        expected = []
        for label in range(3):
            score = torch.stack([lsan.second.weight[label] @ torch.tanh(lsan.first.weight @ h) for h in states])
            alpha = torch.exp(score) / torch.exp(score).sum()
            by_self = sum(a * h for a, h in zip(alpha, states, strict=True))
            c = lsan.read.weight @ lsan.labels[label]
            ahead = sum((c @ h[:half]) * h[:half] for h in states)
            back = sum((c @ h[half:]) * h[half:] for h in states)
            by_label = torch.cat([ahead, back])
            a, b = (
                torch.sigmoid(each.weight[0] @ vector + each.bias[0])
                for each, vector in ((lsan.weigh_self, by_self), (lsan.weigh_label, by_label))
            )
            fused = (a * by_self + b * by_label) / (a + b)
            hidden = torch.relu(lsan.shared.weight @ fused + lsan.shared.bias)
            expected.append(lsan.out.weight[0] @ hidden + lsan.out.bias[0])
        torch.testing.assert_close(lsan([query])[0], torch.stack(expected))
