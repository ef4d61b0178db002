"""Training of the query classifier: a step equals its queries one by one, workers and restarts change nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch

from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.errors import RaylevanceError, UsageError
from raylevance.losses.semi_labels import fuse_knowledge, semi_labels, soft_targets
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.query_classifier import QueryClassifier, QueryClassifierSettings
from raylevance.models.tokenizer import Side
from raylevance.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from raylevance.training.optimizer import build_optimizer
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.classification import Classification, ClassificationEvaluation, ClassificationSettings
from raylevance.training.tasks.classification.replica import ClassificationReplica
from raylevance.training.trainer import train
from tests.conftest import WORDS
from tests.training.conftest import split_machine_settings

LABEL_COUNT = 6
QUERIES = 23


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine threads wait for each other longer than these models compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def space() -> LabelSpace:
    """A root, which is not predicted, with five categories below it, and two brands."""
    rows: list[tuple[Any, ...]] = [("category", "all", "all", None, WORDS[0], False)]
    rows += [("category", word, word, "all", f"{word} {WORDS[-1]}", True) for word in WORDS[1:LABEL_COUNT]]
    rows += [("brand", word, word, None, word, True) for word in WORDS[6:8]]
    return LabelSpace(pa.Table.from_pylist([dict(zip(LABELS.names, row, strict=True)) for row in rows], schema=LABELS))


@pytest.fixture(scope="module")
def start(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier whose heads have random weights, and none of whose layers is 0."""
    folder = tmp_path_factory.mktemp("start")
    settings = EncoderSettings(backbone=str(tiny_backbone), max_query_tokens=12, max_item_tokens=20)
    Encoder.from_backbone(settings).save(folder / "encoder")
    rng = np.random.default_rng(0)
    graphs = {"category": sp.random(6, 6, 0.5, "csr", random_state=rng), "brand": sp.identity(2, format="csr")}
    model = QueryClassifier.from_encoder(folder / "encoder", space(), graphs, QueryClassifierSettings(scale=3.0))
    torch.manual_seed(0)
    for head in model.task_heads():
        assert head.gcn is not None
        for layer in head.gcn.layers:
            torch.nn.init.normal_(layer.lin.weight, std=0.2)
    model.save(folder / "classifier")
    return folder / "classifier"


def labelled(count: int, seed: int) -> pa.Table:
    """Make queries of both tasks; half of them have knowledge."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        labels = rng.choice(np.arange(1, LABEL_COUNT), rng.integers(1, 3), replace=False)
        if rng.random() < 0.3:
            labels = rng.choice([6, 7], 1)
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(rng.integers(0, 3))]
        rows.append(
            {
                "query": " ".join(rng.choice(WORDS, rng.integers(1, 5))),
                "labels": labels.tolist(),
                "targets": rng.uniform(0.3, 1, len(labels)).tolist(),
                "weight": float(rng.uniform(0.2, 1)),
                "knowledge": texts,
            }
        )
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def queries_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("queries") / "queries.parquet"
    pq.write_table(labelled(QUERIES, seed=0), file)
    return file


TAU = {"category": 0.5, "brand": 0.9}


def opened(start: Path, rows: Path, folder: Path, context: dict[str, int] | None = None, **settings: Any) -> Any:
    task = Classification(start, rows, ClassificationSettings(**{"batch": 10, "tau": TAU} | settings))
    task.prepare(folder)
    return task.open(None, WorkerContext(folder, **({"seed": 0} | (context or {}))))


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def naive_loss(model: QueryClassifier, rows: list[dict[str, Any]], tau: dict[str, float], *, stop: bool) -> Any:
    """Compute the loss of a step query by query in float64, with one graph through queries and label texts."""

    def encode(text: str, side: Side) -> torch.Tensor:
        return model.encoder(torch.tensor(model.encoder.tokenize([text], side)), None, side)[0].double()

    vectors = torch.stack([encode(text, "item") for text in model.space.labels["text"].to_pylist()])
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        number = 0 if row["labels"][0] < LABEL_COUNT else 1
        task, head = model.space.tasks[number], model.task_heads()[number]
        span = model.space.rows(task)
        own = vectors[span]
        assert head.gcn is not None
        graph = torch.sparse_csr_tensor(head.gcn.pointers, head.gcn.columns, head.gcn.values.double()).to_dense()
        hidden = own
        for layer in head.gcn.layers:
            hidden = torch.nn.functional.leaky_relu(graph @ hidden @ layer.lin.weight.double().T, 0.2)
        columns = [int(column) for column in head.predicted]
        query = encode(row["query"], "query")
        logits = head.scale.double() * ((own + hidden)[columns] @ query) + head.bias.double()
        targets = torch.zeros(len(columns), dtype=torch.float64)
        for label, target in zip(row["labels"], row["targets"], strict=True):
            targets[columns.index(label - span.start)] = float(np.float32(target))
        with torch.no_grad():
            known = [encode(text, "item") for text in row["knowledge"]]
        texts = torch.stack(known)[None] if known else torch.zeros(1, 0, len(query), dtype=torch.float64)
        compared, asked = (own[columns].detach(), query.detach()) if stop else (own[columns], query)
        fused = fuse_knowledge(asked[None], texts, torch.ones(1, len(known), dtype=torch.bool))
        targets = soft_targets(targets, semi_labels(fused, compared, tau[task])[0].double())
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        total = total + float(np.float32(row["weight"])) * losses
    return total


@pytest.mark.parametrize(("batch_tokens", "stop"), [(9999, True), (30, True), (30, False)])
def test_a_step_equals_its_queries_one_by_one(
    start: Path, queries_file: Path, tmp_path: Path, batch_tokens: int, stop: bool
) -> None:
    replica = opened(start, queries_file, tmp_path, {"batch_tokens": batch_tokens}, stop_gradient=stop)
    loss = replica.backward(0)
    rows = pq.read_table(queries_file).to_pylist()
    oracle = QueryClassifier.load(start)
    naive = naive_loss(oracle, [rows[row] for row in replica.rows(0)], TAU, stop=stop)
    naive.backward()
    assert float(loss) == pytest.approx(naive.item(), rel=1e-5)
    expected, found = gradients(oracle), gradients(replica.model)
    assert expected.keys() == found.keys() and len(found) > 20
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=2e-5 * largest)
    assert float(replica.logged()["semi_labels"]) > 0


def test_steps_between_refreshes_use_the_latest_label_vectors(start: Path, queries_file: Path, tmp_path: Path) -> None:
    """Label texts move the encoder only in steps that encode them; the heads move in all."""
    replica = opened(start, queries_file, tmp_path, refresh_every=2)
    replica.backward(0)
    encoded = replica.labels.clone()
    torch.testing.assert_close(encoded, replica.model.label_vectors(), rtol=0, atol=1e-5)
    with torch.no_grad():
        for parameter in replica.model.encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    replica.zero_grad()
    replica.backward(1)
    torch.testing.assert_close(replica.labels, encoded, rtol=0, atol=0)
    assert replica.model.task_heads()[0].scale.grad.abs() > 0
    replica.zero_grad()
    replica.backward(2)
    torch.testing.assert_close(replica.labels, replica.model.label_vectors(), rtol=0, atol=1e-5)


def test_the_shares_of_two_workers_add_up(start: Path, queries_file: Path, tmp_path: Path) -> None:
    contexts = [{"rank": rank, "world_size": size} for rank, size in [(0, 1), (0, 2), (1, 2)]]
    alone, *shares = [opened(start, queries_file, tmp_path, context) for context in contexts]
    assert float(alone.backward(0)) == pytest.approx(sum(float(share.backward(0)) for share in shares), rel=1e-5)
    parts = [gradients(share) for share in shares]
    whole = gradients(alone)
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    for name, gradient in whole.items():
        added = sum(part[name] for part in parts if name in part)
        torch.testing.assert_close(added, gradient, rtol=0, atol=1e-5 * largest)


def trained(replica: ClassificationReplica, steps: range, optimizer: torch.optim.Optimizer) -> None:
    for step in steps:
        optimizer.zero_grad()
        replica.backward(step)
        optimizer.step()


def test_a_tau_that_no_task_has_or_no_cosine_can_have(start: Path, queries_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tau: the classifier has no task 'categroy'; did you mean 'category'"):
        opened(start, queries_file, tmp_path, tau={"categroy": 0.5})
    with pytest.raises(ValueError, match="less than or equal to 1"):
        ClassificationSettings(tau={"category": 1.5})


def test_a_restart_between_refreshes_changes_nothing(start: Path, queries_file: Path, tmp_path: Path) -> None:
    """The label vectors of the latest refresh are part of a checkpoint."""
    settings = {"refresh_every": 4, "learning_rate": 1e-3}
    replica = opened(start, queries_file, tmp_path, **settings)
    optimizer = build_optimizer(replica, ClassificationSettings(**settings))
    trained(replica, range(2), optimizer)
    save_checkpoint(tmp_path, replica, optimizer, Progress(step=2))
    trained(replica, range(2, 6), optimizer)

    task = Classification(start, queries_file, ClassificationSettings(batch=10, tau=TAU, **settings))
    resumed = task.open(tmp_path / "model", WorkerContext(tmp_path, seed=0))
    optimizer = build_optimizer(resumed, task.settings)
    load_checkpoint(tmp_path, resumed, optimizer)
    trained(resumed, range(2, 6), optimizer)
    for name, tensor in replica.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=1e-6, msg=name)


def mean_cosine(model: QueryClassifier) -> float:
    """Return the mean cosine of two different labels' vectors."""
    vectors = model.label_vectors().numpy()
    cosines = vectors @ vectors.T
    return float(cosines[~np.eye(len(vectors), dtype=bool)].mean())


def queries_by_rule(count: int) -> pa.Table:
    """Make queries that name their category."""
    rng = np.random.default_rng(3)
    labels = rng.integers(1, LABEL_COUNT, count)
    queries = [f"{WORDS[label]} {rng.choice(WORDS[10:])}" for label in labels]
    columns = {"labels": [[label] for label in labels], "targets": [[1.0]] * count, "weight": [1.0] * count}
    return pa.table({"query": queries, **columns})


def test_without_stop_gradient_labels_and_queries_collapse(minilm: Path, tmp_path: Path) -> None:
    """With it, a query keeps its one label and labels move apart; without, every label passes and all become one."""
    encoder = EncoderSettings(backbone=str(two_layers(minilm, tmp_path)), max_query_tokens=8, max_item_tokens=8)
    Encoder.from_backbone(encoder).save(tmp_path / "encoder")
    plain = QueryClassifierSettings(structure_enhanced=False, scale=10.0)
    QueryClassifier.from_encoder(tmp_path / "encoder", space(), {}, plain).save(tmp_path / "start")
    pq.write_table(queries_by_rule(60), tmp_path / "queries.parquet")
    found = {}
    for stop in (True, False):
        settings = ClassificationSettings(
            batch=20, tau={"category": 0.5}, refresh_every=1, stop_gradient=stop, learning_rate=3e-4
        )
        (tmp_path / f"{stop}").mkdir()
        replica = opened(tmp_path / "start", tmp_path / "queries.parquet", tmp_path / f"{stop}", **dict(settings))
        trained(replica, range(25), build_optimizer(replica, settings))
        found[stop] = mean_cosine(replica.model), float(replica.logged()["semi_labels"])
    (apart, one), (together, every) = found[True], found[False]
    assert apart < 0.3 and one == pytest.approx(1, abs=0.2), found
    assert together > 0.99 and every == LABEL_COUNT - 1, found


def two_layers(backbone: Path, folder: Path) -> Path:
    """Save the first two layers of a BERT: enough for texts to differ, and quick."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(backbone)
    model.encoder.layer = model.encoder.layer[:2]
    model.config.num_hidden_layers = 2
    model.save_pretrained(folder / "backbone")
    AutoTokenizer.from_pretrained(backbone).save_pretrained(folder / "backbone")
    return folder / "backbone"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1, 6]}, "row 3 has labels of two tasks"),
        ({"labels": [0, 1]}, "row 3 has the label 'all', which is not predicted"),
        ({"labels": [1, 99]}, "row 3 has label 99, of 8 labels"),
        ({"labels": []}, "row 3: has 0 labels and 2 targets"),
        ({"targets": [0.0, 0.5]}, r"row 3: targets \[0.0, 0.5\] are not above 0"),
        ({"query": None}, "row 3: query, labels, targets, weight are required"),
        ({"weight": float("nan")}, "row 3: weight nan is not a number above 0"),
    ],
)
def test_bad_rows_are_named(start: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = labelled(6, seed=2).to_pylist()
    rows[3] |= {"labels": [1, 2], "targets": [0.5, 0.5]} | change
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "queries.parquet")
    with pytest.raises(RaylevanceError, match=message):
        opened(start, tmp_path / "queries.parquet", tmp_path)


def test_the_evaluation_counts_right_answers(start: Path) -> None:
    model = QueryClassifier.load(start)
    queries = {"category": list(WORDS[:5]), "brand": list(WORDS[5:9])}
    best = [rows.argmax(axis=1) for rows in (model.probabilities(queries[task])[n] for n, task in enumerate(queries))]
    own = {
        "category": [[int(best[0][row])] if row < 3 else [int(best[0][row] + 1) % 5] for row in range(5)],
        "brand": [[int(1 - best[1][row])] for row in range(4)],
    }
    found = ClassificationEvaluation(queries, own)(model)
    assert found["accuracy@1"] == pytest.approx((3 / 5 + 0) / 2)
    assert found["log_likelihood"] < 0


@pytest.mark.long
@pytest.mark.ray
def test_two_workers_train_what_one_trains(ray_cluster: None, start: Path, queries_file: Path, tmp_path: Path) -> None:
    models = []
    for workers in (1, 2):
        settings, machine = split_machine_settings(
            {"batch": 8, "epochs": 2, "learning_rate": 1e-3, "tau": TAU, "refresh_every": 2, "workers": workers}
            | {"cpus_per_worker": 1, "log_every": 1}
        )
        task = Classification(start, queries_file, ClassificationSettings(**settings))
        folder = tmp_path / str(workers)
        result = train(task, machine, run_dir=folder / "run", output=folder / "trained")
        models.append(QueryClassifier.load(result.model))
    for one, two in zip(*(model.probabilities(WORDS) for model in models), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3)
