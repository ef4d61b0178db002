"""The item retrieval task: its batches against loops, its views, restarts, workers, and what it learns."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr
from raylevance.graph.item_graph import ITEMS, NEIGHBOURS, OBJECTIVE_FOLDER, QUERIES, REQUESTS_FOLDER, ItemGraph
from raylevance.graph.item_objectives import Objective, above_chance, strongest
from raylevance.graph.item_requests import REQUESTS
from raylevance.graph.query_categories import QUERY_CATEGORIES
from raylevance.models.item_encoder import ItemEncoder, ItemEncoderSettings
from raylevance.models.item_features import ItemVocabulary
from raylevance.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from raylevance.training.optimizer import build_optimizer, set_rate
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.item_retrieval.batches import Batches
from raylevance.training.tasks.item_retrieval.item_nodes import ItemNodes, View
from raylevance.training.tasks.item_retrieval.replica import ItemRetrievalReplica
from raylevance.training.tasks.item_retrieval.task import ItemRetrieval, ItemRetrievalSettings, ObjectiveWeights
from raylevance.training.trainer import train
from tests.training.conftest import split_machine_settings

SIZE, GROUPS = 60, 3
"""Items are chosen after items of their own group, which their category names. The last item has no event."""


def group(item: int) -> int:
    return item % GROUPS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph"))


def write_graph(folder: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    known = np.arange(SIZE - 1)
    rows = np.repeat(known, 6)
    columns = (rng.integers(0, SIZE // GROUPS - 1, len(rows)) * GROUPS + rows % GROUPS) % (SIZE - 1)
    columns = np.where(group_of(columns) == group_of(rows), columns, rows % GROUPS)
    columns = np.where(columns == rows, rows % GROUPS + GROUPS, columns)
    kept = columns != rows
    rows, columns = rows[kept], columns[kept]
    is_new = rng.random(len(rows)) < 0.3
    # Some edges are below chance.
    weights = np.where(np.arange(len(rows)) % 9, rng.uniform(0.1, 1, len(rows)), 0.001)
    subsets = {"relevance": rng.random(len(rows)) < 0.6, "click": np.ones(len(rows), bool)}
    subsets["purchase"] = rng.random(len(rows)) < 0.3
    codes = columns + SIZE * is_new
    for name, chosen in subsets.items():
        edges = np.unique(rows[chosen] * 2 * SIZE + codes[chosen], return_index=True)[1]
        r, c, w = rows[chosen][edges], codes[chosen][edges], weights[chosen][edges]
        Csr.from_edges(r, c, w, (SIZE, 2 * SIZE)).save(folder / OBJECTIVE_FOLDER / name / "0.arrow")
    near = np.unique(rows * SIZE + columns)
    Csr.from_edges(near // SIZE, near % SIZE, rng.uniform(0.5, 2, len(near)), (SIZE, SIZE)).save(
        folder / NEIGHBOURS / "0.arrow"
    )
    table = {
        "product_id": [f"p{i:03}" for i in range(SIZE)],
        "category": [[f"c{group(i)}"] for i in range(SIZE)],
        "brand": pa.nulls(SIZE, pa.string()),
        "price": pa.array(rng.uniform(1, 9, SIZE)),
        "first_time": pa.array([0] * (SIZE - 1) + [None], pa.int64()),
        **{action: pa.array([*rng.integers(1, 30, SIZE - 1).tolist(), 0]) for action in ACTIONS},
    }
    pq.write_table(pa.table(table), folder / ITEMS)
    pq.write_table(QUERY_CATEGORIES.empty_table(), folder / QUERIES)
    (folder / REQUESTS_FOLDER).mkdir()
    pq.write_table(pa.Table.from_pylist(requests_of_groups(rng), REQUESTS), folder / REQUESTS_FOLDER / "0.parquet")
    return folder


def requests_of_groups(rng: np.random.Generator) -> list[dict[str, object]]:
    """Return requests of twenty users, each of whom chooses items of two groups."""
    rows = []
    for number in range(60):
        of_user = [item for item in range(SIZE - 1) if group(item) != number % GROUPS]
        own = rng.permutation(of_user)[:9].tolist()
        triggers, items = own[:5], sorted(own[5:])
        rows.append(
            {
                "request_id": f"r{number}",
                "user_id": f"u{number % 20}",
                "time": number - 30,
                "triggers": triggers,
                "trigger_weights": [1.0] * len(triggers),
                "items": items,
                "actions": rng.integers(0, 4, len(items)).tolist(),
            }
        )
    return rows


def group_of(items: np.ndarray) -> np.ndarray:
    return items % GROUPS


def start(folder: Path, target: Path) -> Path:
    torch.manual_seed(0)
    vocabulary = ItemVocabulary.of(ItemGraph.load(folder).items)
    ItemEncoder(ItemEncoderSettings(dimension=16), vocabulary, SIZE, 0).save(target)
    return target


def small(**changes: object) -> ItemRetrievalSettings:
    values = {"batch": 16, "epochs": 50, "max_steps": 6, "learning_rate": 1e-2, "random_negatives": 20, "neighbours": 4}
    return ItemRetrievalSettings.model_validate(values | changes)


def opened(task: ItemRetrieval, model: Path | None = None) -> ItemRetrievalReplica:
    return task.open(model, WorkerContext(task.model.parent, seed=0)).train()


def trained(replica: ItemRetrievalReplica, steps: range, optimizer: torch.optim.Optimizer, total: int) -> None:
    for step in steps:
        optimizer.zero_grad()
        replica.backward(step)
        set_rate(optimizer, step, total, 0.1)
        optimizer.step()


@pytest.mark.parametrize("loss", ["removed", "other-positives"])
@pytest.mark.parametrize("most_positives", [None, 2])
def test_positives_and_negatives_equal_a_loop(folder: Path, most_positives: int | None, loss: str) -> None:
    graph = ItemGraph.load(folder)
    settings = small(positives=3, clicked_not_bought=0.25, most_positives=most_positives, loss=loss)
    batches = Batches(graph, settings, seed=4)
    batch = batches.draw(np.array([5, 0, 17, 33, 58]), step=2)
    assert batch.candidates.tolist() == sorted(set(batch.candidates.tolist()))
    kept = {name: above_chance(each) for name, each in graph.objectives.items()}
    if most_positives:
        kept = {name: strongest(each, most_positives) for name, each in kept.items()}
    assert sum(len(each.indices) for each in kept.values()) < sum(len(e.indices) for e in graph.objectives.values())
    edges = {
        name: set(zip(each.edge_rows().tolist(), each.indices.tolist(), strict=True)) for name, each in kept.items()
    }
    rows = np.array([0, 2, 3, 4])
    objectives: tuple[Objective, ...] = ("relevance", "click", "purchase")
    for name in objectives:
        positives = batches.positive_weights(batch, name, rows)
        negatives = batches.negative_weights(batch, name, rows)
        for row, trigger in enumerate(batch.triggers[rows].tolist()):
            has_edges = any(source == trigger for source, _ in edges[name])
            assert positives[row].sum() == (3 if has_edges else 0)
            for place, code in enumerate(batch.candidates.tolist()):
                is_known = {
                    each: bool({(trigger, code % SIZE), (trigger, code % SIZE + SIZE)} & edges[each]) for each in edges
                }
                if positives[row, place]:
                    assert (trigger, code) in edges[name]
                expected = 1.0
                if name == "purchase" and is_known["click"]:
                    expected = 0.25
                if name == "relevance" and is_known["purchase"]:
                    expected = 0.0
                if is_known[name]:
                    drawn = {int(each) % SIZE for each in batch.candidates[positives[row] > 0]}
                    expected = 1.0 if loss == "other-positives" and code % SIZE not in drawn else 0.0
                if code % SIZE == trigger:
                    expected = 0.0
                assert negatives[row, place] == pytest.approx(expected), (name, trigger, code)


def test_a_view_drops_and_exchanges_its_share(folder: Path) -> None:
    codes, count = np.arange(SIZE), 50
    targets = np.repeat(codes, count)
    neighbours = np.random.default_rng(0).integers(0, SIZE, len(targets))
    found, kept = View(count, 0.2, 0.3, seed=5).perturbed(neighbours, targets, codes, SIZE)
    exchanged = found != neighbours
    assert exchanged.mean() == pytest.approx(0.15 * (1 - 1 / SIZE), abs=0.02)
    gone = []
    for seed in range(30):
        found, kept = View(count, 0.2, 0.3, seed).perturbed(neighbours, targets, codes, SIZE)
        gone.append(1 - len(set(found[kept].tolist())) / SIZE)
        assert 1 - len(kept) / len(found) == pytest.approx(1 - 0.85 * (1 - gone[-1]), abs=0.03)
    assert np.mean(gone) == pytest.approx(0.2, abs=0.03), "a dropped node is dropped for every node that hears it"
    untouched = View(count, 0.0, 0.0, seed=5).perturbed(neighbours, targets, codes, SIZE)
    assert (untouched[0] == neighbours).all()
    assert len(untouched[1]) == len(targets)


def test_all_draws_of_an_edge_are_changed_alike() -> None:
    """An item whose one neighbour is drawn ten times loses it in as many views as an item with ten neighbours."""
    codes, lost = np.arange(200), np.zeros(200)
    targets, neighbours = np.repeat(codes, 10), np.repeat((codes * 7 + 1) % 200, 10)
    for seed in range(20):
        found, kept = View(10, 0.0, 0.5, seed).perturbed(neighbours, targets, codes, 200)
        assert (found.reshape(200, 10) == found[::10, None]).all()
        counts = np.bincount(targets[kept], minlength=200)
        assert set(counts.tolist()) <= {0, 10}
        lost += counts == 0
    assert lost.mean() / 20 == pytest.approx(0.25, abs=0.03)


def test_the_vector_of_a_node_in_a_view_does_not_depend_on_the_others(folder: Path, tmp_path: Path) -> None:
    graph = ItemGraph.load(folder)
    encoder = ItemEncoder.load(start(folder, tmp_path / "start")).eval()
    nodes, view = ItemNodes(graph, encoder.vocabulary, None), View(5, 0.2, 0.2, seed=3)
    codes = np.array([50, 3, 7 + SIZE, 3, 59])
    together = nodes.encode(encoder, codes, view)
    for place, code in enumerate(codes):
        torch.testing.assert_close(nodes.encode(encoder, np.array([code]), view)[0], together[place])


def test_a_new_item_is_known_by_its_features_alone(folder: Path, tmp_path: Path) -> None:
    graph = ItemGraph.load(folder)
    encoder = ItemEncoder.load(start(folder, tmp_path / "start")).eval()
    nodes = ItemNodes(graph, encoder.vocabulary, None)
    new = encoder.new_vectors(graph.items)
    np.testing.assert_allclose(nodes.vectors(encoder, np.arange(SIZE) + SIZE), new, atol=1e-6)
    known = nodes.vectors(encoder, np.arange(SIZE))
    np.testing.assert_allclose(known[-1], new[-1], atol=1e-6)
    assert (np.abs(known[:-1] - new[:-1]).max(axis=1) > 1e-3).all()


def test_training_finds_the_groups_and_places_a_new_item(folder: Path, tmp_path: Path) -> None:
    settings = small(max_steps=60)
    task = ItemRetrieval(start(folder, tmp_path / "start"), folder, None, settings)
    replica = opened(task)
    trained(replica, range(60), build_optimizer(replica, settings), 60)
    nodes = ItemNodes(ItemGraph.load(folder), replica.model.vocabulary, None)
    vectors = nodes.vectors(replica.model.eval(), np.arange(SIZE))
    cosines = vectors @ vectors.T - 2 * np.eye(SIZE)
    nearest = np.argsort(-cosines, axis=1)[:, :10]
    same = group_of(nearest) == group_of(np.arange(SIZE))[:, None]
    assert same.mean() > 0.95
    assert same[-1].all(), "the item without events is near its category"


def test_the_loss_of_histories_equals_a_loop(folder: Path, tmp_path: Path) -> None:
    settings = small(histories=9, temperature=0.2)
    task = ItemRetrieval(start(folder, tmp_path / "start"), folder, None, settings, popularity=0.5)
    task.prepare(tmp_path)
    replicas = [task.open(None, WorkerContext(tmp_path, seed=0, rank=rank, world_size=2)) for rank in range(2)]
    for replica in replicas:
        assert replica.histories is not None
        batch = replica.histories.draw(3)
        both_codes = np.concatenate([batch.targets, (batch.targets + SIZE) % (2 * SIZE)])
        candidates = replica._batches.draw(np.arange(5), 3, both_codes).candidates
    assert (batch.targets >= SIZE).any()
    assert (batch.targets < SIZE).any()
    triggers = np.unique(batch.triggers)
    random = np.random.default_rng(0)
    vectors, others = random.normal(size=(len(triggers), 16)), random.normal(size=(len(candidates), 16)) / 4
    counts = ItemGraph.load(folder).event_counts.sum(axis=1)
    mean = counts[counts > 0].mean()
    expected = []
    for history in range(batch.size):
        mine, targets = batch.trigger_rows == history, batch.targets[batch.target_rows == history]
        mass = {}
        for place, code in enumerate(candidates.tolist()):
            if code % SIZE in batch.triggers[mine] or (code % SIZE in targets % SIZE and code not in targets):
                continue
            count = counts[code] if code < SIZE and counts[code] else mean
            mass[code] = ((1 + count) / (1 + mean)) ** 0.5 * sum(
                weight * np.exp(vectors[np.searchsorted(triggers, trigger)] @ others[place] / 0.2)
                for trigger, weight in zip(batch.triggers[mine], batch.weights[mine], strict=True)
            )
        expected.append(-np.mean([np.log(mass[code] / sum(mass.values())) for code in targets.tolist()]))
    given = torch.from_numpy(vectors), torch.from_numpy(others)
    losses = [
        float(replica._history_loss(batch, candidates, *(part.float() for part in given))) for replica in replicas
    ]
    np.testing.assert_allclose(losses, [sum(expected[0::2]), sum(expected[1::2])], rtol=1e-4)


def test_histories_bring_the_items_of_their_users_together(folder: Path, tmp_path: Path) -> None:
    # The users of the log choose items of two groups, while the edges of the graph stay within one.
    found = {}
    for histories in (0, 16):
        settings = small(max_steps=60, histories=histories, history_weight=5)
        task = ItemRetrieval(start(folder, tmp_path / f"start{histories}"), folder, None, settings)
        task.prepare(tmp_path / f"run{histories}")
        replica = task.open(None, WorkerContext(tmp_path / f"run{histories}", seed=0)).train()
        trained(replica, range(60), build_optimizer(replica, settings), 60)
        nodes = ItemNodes(ItemGraph.load(folder), replica.model.vocabulary, None)
        vectors = nodes.vectors(replica.model.eval(), np.arange(SIZE - 1))
        other = group_of(np.arange(SIZE - 1))[:, None] != group_of(np.arange(SIZE - 1))
        found[histories] = (vectors @ vectors.T)[other].mean()
        assert ("loss_histories" in replica.logged()) == bool(histories)
    assert found[16] > found[0] + 0.1


@pytest.mark.parametrize("histories", [0, 6])
def test_a_restart_goes_on_as_if_it_had_not_stopped(folder: Path, tmp_path: Path, histories: int) -> None:
    settings = small(histories=histories)
    task = ItemRetrieval(start(folder, tmp_path / "start"), folder, None, settings)
    task.prepare(tmp_path)
    whole = opened(task)
    optimizer = build_optimizer(whole, settings)
    trained(whole, range(3), optimizer, 6)
    (tmp_path / "checkpoint").mkdir()
    save_checkpoint(tmp_path / "checkpoint", whole, optimizer, Progress(step=3))
    trained(whole, range(3, 6), optimizer, 6)
    resumed = opened(task, tmp_path / "checkpoint" / "model")
    again = build_optimizer(resumed, settings)
    load_checkpoint(tmp_path / "checkpoint", resumed, again)
    trained(resumed, range(3, 6), again, 6)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_an_objective_without_edges_is_named(folder: Path, tmp_path: Path) -> None:
    only = {"relevance": 0, "click": 0, "purchase": 0}
    task = ItemRetrieval(start(folder, tmp_path / "start"), folder, None, small(weights=only))
    with pytest.raises(RaylevanceError, match="those with edges: relevance, click, purchase"):
        task.prepare(tmp_path)
    with pytest.raises(ValueError, match="all objectives have weight 0"):
        ObjectiveWeights(relevance=0, exposure=0, click=0, purchase=0)


@pytest.mark.ray
@pytest.mark.long
def test_two_workers_train_what_one_trains(ray_cluster: None, folder: Path, tmp_path: Path) -> None:
    model = start(folder, tmp_path / "start")
    vectors = []
    for workers in (1, 2):
        values = small(precision="fp32", mixed_negatives=4, histories=6).model_dump(exclude_unset=True) | {
            "cpus_per_worker": 1,
            "workers": workers,
        }
        settings, machine = split_machine_settings(values)
        task = ItemRetrieval(model, folder, None, ItemRetrievalSettings(**settings))
        result = train(task, machine, run_dir=tmp_path / f"run{workers}", output=tmp_path / f"trained{workers}")
        encoder = ItemEncoder.load(result.model).eval()
        vectors.append(ItemNodes(ItemGraph.load(folder), encoder.vocabulary, None).vectors(encoder, np.arange(SIZE)))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-4)
