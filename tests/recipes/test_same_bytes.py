"""Steps that are run in two stores with one seed write the same bytes."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from raylevance.artifacts import Store
from raylevance.config import load_settings
from raylevance.data.graded_instances import InstanceSettings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.schema import JUDGEMENTS
from raylevance.data.spelling import SpellingSettings
from raylevance.data.text import ProductText
from tests.recipes.test_numberings import COUNT, name, table, write_tables
from workloads.recipes.mine_and_refine import MineAndRefineSettings, split_queries, warm_up
from workloads.recipes.weak_supervision import WeakSupervisionSettings, build_behaviour_graph, sample_pairs
from workloads.run import Run
from workloads.steps.contrastive_instances import write_judged_instances, write_pseudo_queries

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables with judgements of three splits."""
    folder = write_tables(tmp_path_factory.mktemp("tables"), seed=0)
    splits = ["train", "train", "validation", "test"]
    pairs = [(query, (query + step) % COUNT, (2, 1, 0)[step]) for query in range(COUNT) for step in range(3)]
    judged = table(
        JUDGEMENTS,
        np.arange(len(pairs)),
        query_id=[f"q{name(query)}" for query, _, _ in pairs],
        product_id=[f"p{name(product)}" for _, product, _ in pairs],
        grade=[grade for *_, grade in pairs],
        source=["human"] * len(pairs),
        split=[splits[query % 4] for query, _, _ in pairs],
    )
    (folder / "judgements").mkdir()
    pq.write_table(judged, folder / "judgements" / "part-000000.parquet")
    return folder


def test_pseudo_queries_have_fixed_names_and_bytes(tables: Path, tmp_path: Path, ray_cluster: None) -> None:
    """Files named at random are read in another order by every run, beside those of clicked pairs."""
    found = []
    for place in ("one", "other", "one"):
        output = tmp_path / place
        write_pseudo_queries(tables / "products", output, ProductText(), per_product=1, category_share=0.2, seed=0)
        found.append({file.name: file.read_bytes() for file in output.iterdir()})
    assert found[0] == found[1] == found[2]
    assert all(part.startswith("part-") for part in found[0])
    rows = pyarrow.dataset.dataset(tmp_path / "one", format="parquet").to_table()
    assert rows.num_rows == COUNT


def test_instances_of_judged_queries_have_fixed_names_and_bytes(
    tables: Path, tmp_path: Path, ray_cluster: None
) -> None:
    train, text = JudgedTables.open(tables).split("train"), ProductText()
    found = []
    for place in ("one", "other"):
        write_judged_instances(train, tmp_path / place, text, InstanceSettings(), SpellingSettings(), 0)
        found.append({file.name: file.read_bytes() for file in (tmp_path / place).iterdir()})
    assert found[0] == found[1] != {}


def run_steps(tables: Path, root: Path, backbone: Path) -> dict[str, str]:
    """Run the steps that read a log, and return their versions, which are hashes of their files."""
    store = Store(root)
    with store.publish("tables/shop") as draft:
        shutil.copytree(tables, draft.path, dirs_exist_ok=True)
    common = [f"encoder.backbone={backbone}", "machine.cpus_per_worker=1"]
    short = ["warmup.train.max_steps=3", "warmup.train.batch=8"]
    retrieval = load_settings(MineAndRefineSettings, None, [*common, *short])
    weak = load_settings(WeakSupervisionSettings, None, common)
    shop, judged = store.get("tables/shop"), JudgedTables.open(store.path("tables/shop"))
    with Run(store) as run:
        warm_up(retrieval, split_queries(retrieval, run, shop, judged))
        sample_pairs(weak, build_behaviour_graph(weak, run, shop, judged))
        return {artifact.name: artifact.version for artifact in run.made}


@pytest.mark.long
def test_steps_that_read_a_log_write_the_same_bytes_in_two_stores(
    tables: Path, tmp_path: Path, tiny_backbone: Path, ray_cluster: None
) -> None:
    first, second = (run_steps(tables, tmp_path / place, tiny_backbone) for place in ("one", "other"))
    assert first == second
    assert {"graph/warmup", "encoder/warmup", "graph/behaviour", "pairs/weak"} == set(first)
