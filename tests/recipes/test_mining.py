"""Mining by a trained encoder, graded by people and a judge: what is trained on, and what is only counted."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.data.hashing import pair_ids
from raylevance.data.judged_tables import TRAIN, VALIDATION, JudgedTables
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError, UsageError
from raylevance.inference.embeddings import embed_products, read_rows
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import encode_texts
from raylevance.inference.judge import ZERO_SHOT, save_judge
from raylevance.inference.judge import load as load_judge
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.gate import compare_with_people
from raylevance.judges.settings import JudgeSettings
from raylevance.training.settings import MachineSettings
from workloads.recipe import find_recipe, load_recipe_settings
from workloads.recipes.mine_and_refine import check_settings
from workloads.run import Run
from workloads.steps.encoder_training import Trainer
from workloads.steps.match_judge import JUDGE_TEXT
from workloads.steps.mining import (
    ASSUMED,
    MINED,
    MineSettings,
    add_mined_pairs,
    mining_step,
    nearest_products,
    pairs_to_check,
    why_nothing_is_added,
)
from workloads.steps.mining_judge import BEST, best_judge
from workloads.steps.retrieval_data import RetrievalData

Mine = Callable[..., tuple[Artifact, pa.Table]]


@pytest.fixture(scope="module")
def store(small_store: Path, tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Store:
    """What the small recipe has made, and a judge that has learned nothing."""
    folder = tmp_path_factory.mktemp("mining")
    shutil.copytree(small_store, folder / "store")
    CrossEncoder.from_backbone(str(tiny_backbone), max_tokens=48).save(folder / "model")
    judge = {"backend": "cross-encoder", "cross_encoder": str(folder / "model")}
    (folder / "judge.yaml").write_text(yaml.safe_dump(judge))
    return Store(folder / "store")


@pytest.fixture(scope="module")
def train(store: Store) -> JudgedTables:
    return JudgedTables.open(store.path("tables/demo")).split(TRAIN)


@pytest.fixture(scope="module")
def mine(store: Store, train: JudgedTables, ray_cluster: None) -> Mine:
    """The mining step, by stage 1's encoder."""
    judge = str(Path(store.path("tables/demo")).parents[3] / "judge.yaml")

    def call(earlier: Sequence[Artifact] = (), **changed: object) -> tuple[Artifact, pa.Table]:
        settings = MineSettings.model_validate(
            {"judge": judge, "k": 20, "check_pairs": 40, "minimum_gain": -1, **changed}
        )
        tables, encoder = store.get("tables/demo"), store.get("encoder/stage1")
        text = load_encoder(store, encoder.ref).text
        assert text is not None
        with Run(store) as run:
            data = retrieval_data(run, tables, train, text)
            made = mining_step(data, "pairs/mined", encoder, settings, earlier)
        return made, pq.read_table(store.path(made.ref) / MINED)

    return call


def retrieval_data(run: Run, tables: Artifact, train: JudgedTables, text: ProductText) -> RetrievalData:
    """The training queries `train` and the validation queries of the shop, which are others."""
    return RetrievalData(
        run=run,
        tables=tables,
        judged=train,
        human_train=train,
        train=train,
        validation=JudgedTables.open(run.store.path(tables.ref)).split(VALIDATION),
        synthetic=(),
        text=text,
        trainer=Trainer(MachineSettings(), seed=0),
    )


def sources(mined: pa.Table) -> set[str]:
    return {source.partition(":")[0] for source in mined["source"].to_pylist()}


def test_a_judge_that_agrees_is_trained_on(mine: Mine, train: JudgedTables) -> None:
    made, mined = mine(minimum_kappa=-1, most_labelled=30)
    assert made.metrics["trusted"] and made.metrics["labelled"] == 30
    assert sources(mined) == {"demo", "llm"}
    by_judge = mined.filter(pc.starts_with(mined["source"], "llm:"))
    assert not set(pair_ids(by_judge).to_pylist()) & set(pair_ids(train.judgements).to_pylist())
    assert by_judge.num_rows == 30
    upper = by_judge.filter(pc.less_equal(by_judge["rank"], 10))
    assert made.metrics["labelled_in_upper_half"] == upper.num_rows
    assert made.metrics["relevant_in_upper_half"] == pc.sum(pc.greater(upper["grade"], 0)).as_py()


def test_mined_pairs_are_added_to_the_judgements_of_an_audit(mine: Mine, train: JudgedTables) -> None:
    """They have two columns more, and keep them."""
    _, mined = mine(minimum_kappa=-1, most_labelled=30)
    previous = pa.array([2] + [None] * (train.judgements.num_rows - 1), pa.int8())
    audited = replace(train, judgements=train.judgements.append_column("previous_grade", previous))
    both = add_mined_pairs(audited, mined).judgements
    assert both.num_rows > train.judgements.num_rows
    assert both["previous_grade"].to_pylist()[:2] == [2, None] and both["previous_grade"].null_count == len(both) - 1


def test_neighbours_that_are_not_asked_about_are_counted(mine: Mine, capfd: pytest.CaptureFixture[str]) -> None:
    asked_all, _ = mine(minimum_kappa=-1, most_labelled=None)
    some, _ = mine(minimum_kappa=-1, most_labelled=17)
    assert asked_all.metrics["not_asked"] == 0
    assert some.metrics["not_asked"] == asked_all.metrics["labelled"] + asked_all.metrics["not_labelled"] - 17 > 0
    assert f"{some.metrics['not_asked']} more have no judgement and were not asked about" in capfd.readouterr().err


def test_a_later_round_asks_about_other_pairs(mine: Mine) -> None:
    first, mined = mine(minimum_kappa=-1, most_labelled=30)
    second, found = mine(minimum_kappa=-1, most_labelled=30, earlier=[first])
    before, after = (
        set(pair_ids(each.filter(pc.starts_with(each["source"], "llm:"))).to_pylist()) for each in (mined, found)
    )
    assert before < after and len(after) == 60 and second.metrics["labelled"] == 30
    upper = second.metrics["labelled_in_upper_half"]
    assert 0 < upper < 30, "those of the first round are not counted again"


def test_a_judge_that_does_not_agree_grades_nothing(mine: Mine, capfd: pytest.CaptureFixture[str]) -> None:
    made, mined = mine(minimum_kappa=1, most_labelled=30)
    assert not made.metrics["trusted"] and (made.metrics["labelled"], made.metrics["not_labelled"]) == (0, 30)
    assert sources(mined) == {"demo"}
    assert "is not asked for labels: it agrees too little with people" in capfd.readouterr().err


def test_the_worth_of_a_judge_is_measured_before_it_grades(mine: Mine, train: JudgedTables) -> None:
    """The published cross-encoder learned nothing, so its grades may or may not help; the interval decides."""
    made, mined = mine(minimum_kappa=-1, minimum_gain=0, most_labelled=30)
    worth = made.metrics["worth"]
    assert 0 < worth["queries"] <= 25 and worth["pairs"] <= 20 * worth["queries"] and worth["seconds"] >= 0
    assert made.metrics["trusted"] == (worth["gain"][1] > 0)
    assert made.metrics["labelled"] == (30 if made.metrics["trusted"] else 0)
    assert ("llm" in sources(mined)) == made.metrics["trusted"]


@pytest.mark.parametrize(
    ("kappa", "gain", "line"),
    [
        (0.9, [0.01, -0.01, 0.03], "changes nDCG@10 by +0.010 [-0.010, 0.030], and the interval must be above 0"),
        (0.1, [0.05, 0.03, 0.07], "it agrees too little with people (quadratic kappa 0.10)"),
    ],
)
def test_a_judge_that_is_known_to_be_worthless_is_asked_nothing(
    mine: Mine, store: Store, kappa: float, gain: list[float], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody answers at its address, which would be an error if it were asked."""
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "none", "max_retries": 0}

    def build(draft: Draft) -> None:
        save_judge(draft.path, JudgeSettings.model_validate({"backend": "endpoint", "endpoint": endpoint}))
        draft.metrics |= {"agreement": {"quadratic_kappa": kappa}, "worth": {"gain": gain, "queries": 60}}

    with Run(store) as run:
        judge = run.step("judge/worthless", build, settings={"kappa": kappa})
    made, mined = mine(judge=judge.ref, minimum_gain=0, most_labelled=30)
    assert not made.metrics["trusted"] and made.metrics["labelled"] == 0 and sources(mined) == {"demo"}
    assert line in made.metrics["refused"] and made.metrics["refused"] in capfd.readouterr().err
    assert line in str(why_nothing_is_added(made.metrics))


def test_the_best_judge_at_hand(
    store: Store, train: JudgedTables, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A regression that is measured on each training query by a fit without it, or the model that is named."""
    text = load_encoder(store, "encoder/stage1").text
    assert text is not None
    with Run(store) as run:
        data = retrieval_data(run, store.get("tables/demo"), train, text)
        judge = best_judge(data, str(tiny_backbone))
        assert judge is not None and best_judge(data, str(tiny_backbone)) == judge
        monkeypatch.setenv("RAYLEVANCE_LLM", "some/model")
        assert best_judge(data, str(tiny_backbone)) == ZERO_SHOT
        one = replace(data, human_train=train.first_queries(1, 0))
        monkeypatch.setenv("RAYLEVANCE_LLM", "")
        assert best_judge(one, str(tiny_backbone)) is None
    loaded = load_judge(store, judge)
    assert loaded.worth is not None and loaded.agreement is not None
    assert loaded.worth["queries"] == loaded.agreement["queries"] == train.without_unjudged_queries().queries.num_rows
    assert loaded.agreement["pairs"] == train.judgements.num_rows
    assert loaded.text == JUDGE_TEXT


def test_a_language_model_that_can_not_answer_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    store, recipe = Store(tmp_path / "store"), find_recipe("mine-and-refine")
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("RAYLEVANCE_LLM", str(tmp_path / "model"))
    with pytest.raises(RaylevanceError, match="model: no readable tokenizer"):
        check_settings(load_recipe_settings(recipe, None, []), store)  # type: ignore[arg-type]
    monkeypatch.delenv("RAYLEVANCE_LLM")
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "none", "api_key_env": "NO_SUCH_KEY"}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"backend": "endpoint", "endpoint": endpoint}))
    with pytest.raises(UsageError, match="the environment variable 'NO_SUCH_KEY' is not set"):
        check_settings(load_recipe_settings(recipe, None, [f"mining.judge={tmp_path}/judge.yaml"]), store)  # type: ignore[arg-type]


def test_too_few_queries_for_a_judge_add_no_pair(mine: Mine, capfd: pytest.CaptureFixture[str]) -> None:
    made, mined = mine(judge=BEST, most_labelled=30)
    assert not made.metrics["trusted"] and sources(mined) == {"demo"}
    assert "too few queries are judged to fit a judge" in capfd.readouterr().err


def test_a_judge_that_is_not_there_leaves_nothing_behind(mine: Mine, store: Store, tmp_path: Path) -> None:
    judge = {"backend": "endpoint", "endpoint": {"url": "http://127.0.0.1:9/v1", "model": "none", "max_retries": 0}}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge))
    before = store.artifacts()
    for gain in (-1, 0):
        with pytest.raises(RaylevanceError, match=r"no grade for (\d+) of \1 pairs \(.*no connection.*same command"):
            mine(judge=str(tmp_path / "judge.yaml"), most_labelled=10, minimum_gain=gain)
    assert store.artifacts() == before


def test_a_judge_is_checked_where_it_is_used() -> None:
    """On human judgements of candidates; on others only where there are too few."""
    human = pa.table({"query_id": ["q"] * 6, "product_id": list("abcdef"), "grade": pa.array([2] * 6, pa.int8())})
    found = pa.table({"query_id": ["q", "q", "p"], "product_id": ["f", "b", "c"]})
    assert sorted(pairs_to_check(human, found, 2, seed=0)["product_id"].to_pylist()) == ["b", "f"]
    four = pairs_to_check(human, found, 4, seed=0)["product_id"].to_pylist()
    assert sorted(four[:2]) == ["b", "f"] and len(set(four)) == 4


def test_a_judge_is_checked_on_pairs_of_many_products() -> None:
    """Not on all pairs of a product before those of the next."""
    ids = [(f"q{query}", f"p{product}") for query in range(20) for product in range(20)]
    human = pa.table({"query_id": [query for query, _ in ids], "product_id": [product for _, product in ids]})
    chosen = pairs_to_check(human, human.slice(0, 0), 20, seed=0)
    assert len(set(chosen["product_id"].to_pylist())) > 5 < len(set(chosen["query_id"].to_pylist()))
    assert chosen.equals(pairs_to_check(human.take(pa.array(range(400)[::-1])), human.slice(0, 0), 20, seed=0))
    assert not chosen.equals(pairs_to_check(human, human.slice(0, 0), 20, seed=1))


@pytest.mark.parametrize(("published", "trusted"), [(None, True), (0.1, False), (0.5, True)])
def test_a_judge_has_to_agree_on_queries_it_did_not_learn_from_too(published: float | None, trusted: bool) -> None:
    grades = pa.table({"grade": pa.array([0, 1, 2], pa.int8()), "query_id": ["a", "b", "c"]})
    held_out = None if published is None else {"quadratic_kappa": published}
    assert compare_with_people(grades, grades, 0.2, held_out)["trusted"] == trusted


def test_people_alone_and_the_assumption_that_the_rest_is_irrelevant(mine: Mine) -> None:
    assert sources(mine(unjudged="skip")[1]) == {"demo"}
    _, assumed = mine(unjudged="irrelevant")
    assert sources(assumed) == {"demo", ASSUMED}
    assert set(assumed.filter(pc.equal(assumed["source"], ASSUMED))["grade"].to_pylist()) == {0}


def test_the_curriculum_keeps_what_was_there(mine: Mine, train: JudgedTables) -> None:
    _, mined = mine(unjudged="irrelevant")
    hard = set(pair_ids(mined.filter(mined["role"].is_valid())).to_pylist())
    judged = set(pair_ids(train.judgements).to_pylist())
    whole = add_mined_pairs(train, mined).judgements
    assert whole.slice(0, train.judgements.num_rows).equals(train.judgements)
    assert set(pair_ids(whole).to_pylist()) == judged | hard and whole.num_rows == len(judged | hard)
    alone = add_mined_pairs(train, mined, with_originals=False).judgements
    assert set(pair_ids(alone).to_pylist()) == hard


def test_a_pair_of_two_rounds_is_one_judgement(mine: Mine, train: JudgedTables) -> None:
    _, mined = mine(minimum_kappa=-1, most_labelled=30)
    once, twice = add_mined_pairs(train, mined), add_mined_pairs(train, pa.concat_tables([mined, mined]))
    assert twice.judgements.equals(once.judgements) and once.judgements.num_rows > train.judgements.num_rows
    new = once.judgements.slice(train.judgements.num_rows)
    confidence = dict(zip(pair_ids(mined).to_pylist(), mined["confidence"].to_pylist(), strict=True))
    assert new["confidence"].to_pylist() == [confidence[pair] for pair in pair_ids(new).to_pylist()]
    assert len(set(new["confidence"].to_pylist())) > 1


def test_embeddings_are_those_of_the_encoder_and_are_kept(store: Store, train: JudgedTables) -> None:
    encoder = load_encoder(store, "encoder/stage1")
    products = store.path("tables/demo") / "products"
    files = embed_products(store, encoder, products, rows_per_shard=128)
    assert [len(np.load(file)) for file in files] == [128, 128, 44]
    expected = encode_texts(encoder.path, encoder.item_texts(train.products), "item")
    np.testing.assert_allclose(np.concatenate([np.load(file) for file in files]), expected, atol=1e-5)
    written = [file.stat().st_mtime_ns for file in files]
    assert embed_products(store, encoder, products, rows_per_shard=128) == files
    with store.publish("encoder/copy") as draft:
        shutil.copytree(encoder.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
    assert embed_products(store, load_encoder(store, "encoder/copy"), products, rows_per_shard=128) == files
    assert [file.stat().st_mtime_ns for file in files] == written


@pytest.mark.long
@pytest.mark.ray
def test_one_worker_and_two_mine_the_same_set(
    mine: Mine, store: Store, train: JudgedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One shard is embedded by one actor, two shards by two; what is mined is the same."""
    monkeypatch.setattr("raylevance.inference.embeddings.IN_PROCESS_TEXTS", 0)
    tables, encoder = store.get("tables/demo"), store.get("encoder/stage1")
    found = {}
    for rows_per_shard in (300, 150):
        shutil.rmtree(store.work_folder("embeddings"))
        settings = MineSettings(unjudged="skip", k=20, rows_per_shard=rows_per_shard)
        with Run(store) as run:
            data = retrieval_data(run, tables, train, ProductText())
            found[rows_per_shard] = nearest_products(data, encoder, settings)
        assert len(list(store.work_folder("embeddings").glob("*.npy"))) == 300 // rows_per_shard
    one, two = found[300], found[150]
    assert one["query_id"].equals(two["query_id"])
    np.testing.assert_allclose(one["score"].to_numpy(), two["score"].to_numpy(), atol=1e-5)
    assert pair_ids(one).equals(pair_ids(two))


def test_rows_of_a_catalogue_are_read_across_files_and_row_groups(tmp_path: Path) -> None:
    table = pa.table({"product_id": [f"p{number}" for number in range(23)], "title": [str(n) for n in range(23)]})
    for number, (start, rows) in enumerate([(0, 10), (10, 1), (11, 12)]):
        pq.write_table(table.slice(start, rows), tmp_path / f"part-{number}.parquet", row_group_size=4)
    for start, stop in [(0, 23), (3, 9), (8, 12), (10, 11), (22, 40)]:
        rows = read_rows(tmp_path, start, stop, ["title"])
        assert rows.equals(table.select(["title"]).slice(start, stop - start))
