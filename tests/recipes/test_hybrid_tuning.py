"""`raylevance tune hybrid`: choices on other queries than those measured, the index that it publishes, and refusals."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylevance.artifacts import Store
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.schema import JUDGEMENTS, PRODUCTS, QUERIES
from raylevance.index.fusion import FusionSettings
from raylevance.index.grades import GradeBands
from raylevance.index.lexical_fields import LexicalSettings
from raylevance.index.products import ProductIndex, ProductIndexSettings
from raylevance.index.shards import LocalShards
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.search import load
from raylevance.models.encoder import Encoder
from tests.conftest import Ended
from workloads.steps.judged_training import JUDGED_QUERIES
from workloads.steps.systems import choose, rank_hybrid
from workloads.studies import hybrid_tuning
from workloads.studies.hybrid_tuning import words_alone
from workloads.studies.hybrid_variants import Variant, VariantRanker, choose_family, families, held_out

Command = Callable[..., Ended]

KINDS = ["lamp", "kettle", "hose", "sock", "shoe", "table"]
COLOURS = ["red", "blue", "green", "black", "white"]
FINISHES = ["matt", "glossy"]


def publish_shop(root: Path, backbone: Path, queries: int) -> Store:
    """A store with `index/shop` over 60 products, `queries` judged training queries and ten test queries."""
    store = Store(root)
    rows = [
        {
            "product_id": f"P{number:02}",
            "title": f"{finish} {kind}",
            "color": colour,
            "description": f"goes with a {other} table",
            "locale": "us",
        }
        for number, ((kind, colour, finish), other) in enumerate(
            zip(product(KINDS, COLOURS, FINISHES), COLOURS * 12, strict=True)
        )
    ]
    products = pa.Table.from_pylist(rows, PRODUCTS)
    texts = [f"{colour} {kind} {finish}" for kind, colour, finish in product(KINDS, COLOURS, FINISHES)]
    asked = np.random.default_rng(0).permutation(texts)[: queries + 10].tolist()
    judgements = [
        {
            "query_id": f"q{number}",
            "product_id": f"P{place:02}",
            "grade": 2 if text == query else int(text.split()[1] == query.split()[1]),
            "source": "human",
            "split": "test" if number < 10 else "train",
        }
        for number, query in enumerate(asked)
        for place, text in enumerate(texts)
        if (place + number) % 3 == 0 or text == query
    ]
    np.random.default_rng(1).shuffle(judgements)
    named = [{"query_id": f"q{number}", "query": query, "locale": "us"} for number, query in enumerate(asked)]
    with store.publish("encoder/shop") as encoder_draft:
        encoder = Encoder.load(backbone)
        encoder.save(encoder_draft.path)
    with store.publish("tables/shop") as tables:
        for name, table in {
            "products": products,
            "queries": pa.Table.from_pylist(named[::-1], QUERIES),
            "judgements": pa.Table.from_pylist(judgements, JUDGEMENTS),
        }.items():
            (tables.path / name).mkdir()
            pq.write_table(table, tables.path / name / "part-0.parquet")
    with store.publish("index/shop", parents=[encoder_draft.ref, tables.ref]) as index:
        settings = ProductIndexSettings(fusion=FusionSettings(method="reciprocal_rank"))
        vectors = load_encoder(store, "encoder/shop").encode_products(products)
        ProductIndex.build(products, vectors, settings).save(index.path)
    return store


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    folder = tmp_path_factory.mktemp("hybrid") / "store"
    publish_shop(folder, tiny_backbone, queries=30)
    return folder


def test_the_best_is_published_and_served(raylevance: Command, shop: Path) -> None:
    ended = raylevance("tune", "hybrid", "--store", shop, "--set", "index=index/shop", "--json")
    assert ended.code == 0, ended.err
    outcome, store = json.loads(ended.out), Store(shop)
    assert (outcome["queries"], outcome["folds"], outcome["data"]) == (30, 5, "shop")
    systems = outcome["systems"]
    assert families_by_name().keys() <= systems.keys() and outcome["chosen"] in families_by_name()
    for row in systems.values():
        assert all(low <= mean <= high for mean, low, high in (row["value"], row["minus_bm25"], row["minus_index"]))
    assert systems["the index's own fusion"]["minus_index"] == [0, 0, 0]
    assert Path(outcome["picture"]).read_text().startswith("<?xml")
    published = ProductIndex.load(store.path(outcome["index"]))
    assert outcome["index"].startswith("index/shop-tuned@")
    assert published.fusion.model_dump(mode="json") == outcome["variant"]["fusion"]
    search = load(store, "index/shop-tuned")
    vectors = search.encoder.encode_queries(["red lamp"])
    [expected] = published.search(["red lamp"], vectors, 5)
    assert [(hit.product_id, hit.score) for hit in search("red lamp", k=5)] == [
        (hit.product_id, hit.score) for hit in expected
    ]
    again = raylevance("tune", "hybrid", "--store", shop, "--set", "index=index/shop", "--json")
    assert json.loads(again.out) == outcome


def test_a_fusion_of_its_own_that_is_better_is_kept(
    raylevance: Command, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "reciprocal rank"
    monkeypatch.setattr(hybrid_tuning, "families", lambda lexical: {name: families(lexical)[name]})
    store = Store(shop)
    own = ProductIndex.load(store.path("index/shop"))
    settings = ProductIndexSettings(fusion=FusionSettings(dense_weight=0.01, feedback=0))
    parents = [store.get(f"{kind}/shop").ref for kind in ("tables", "encoder")]
    with store.publish("index/kept", parents=parents) as draft:
        ProductIndex.build(own.products, own.vectors.vectors(np.arange(60)), settings).save(draft.path)
    outcome = json.loads(raylevance("tune", "hybrid", "--store", shop, "--set", "index=index/kept", "--json").out)
    systems = outcome["systems"]
    assert systems["the index's own fusion"]["value"][0] > systems[name]["value"][0]
    assert outcome["chosen"] == "the index's own fusion"
    assert json.loads((store.path("index/kept-tuned") / "index.json").read_text()) == json.loads(
        (store.path("index/kept") / "index.json").read_text()
    )


def test_worthless_vectors_get_less_weight(raylevance: Command, shop: Path) -> None:
    """Each product has the vector of another one."""
    store = Store(shop)
    own = ProductIndex.load(store.path("index/shop"))
    turned = own.vectors.vectors(np.arange(60)[::-1].copy())
    with store.publish(
        "index/turned", parents=[store.get(f"{kind}/shop").ref for kind in ("tables", "encoder")]
    ) as draft:
        ProductIndex.build(own.products, turned, ProductIndexSettings()).save(draft.path)
    ended = raylevance("tune", "hybrid", "--store", shop, "--set", "index=index/turned", "--json")
    outcome = json.loads(ended.out)
    chosen, systems = outcome["chosen"], outcome["systems"]
    assert outcome["variant"]["fusion"]["dense_weight"] == systems[chosen]["dense_weight"] < 0.5
    assert systems["tuned"]["value"][0] > systems["the index's own fusion"]["value"][0] > systems["dense"]["value"][0]
    assert ProductIndex.load(store.path("index/turned-tuned")).fusion.dense_weight < 0.5


def test_graded_cosines_of_an_encoder_that_knows_the_queries_are_refused(raylevance: Command, shop: Path) -> None:
    store = Store(shop)
    before, tables = store.get("encoder/shop"), store.get("tables/shop")
    with store.publish("encoder/knows", parents=[tables.ref, before.ref], settings={JUDGED_QUERIES: "3f"}) as encoder:
        Encoder.load(store.path(before.ref)).save(encoder.path)
    own = ProductIndex.load(store.path("index/shop"))
    graded = ProductIndexSettings(fusion=FusionSettings(method="graded"))
    bands = GradeBands(moderately=0.2, relevant=0.6)
    with store.publish("index/graded", parents=[tables.ref, encoder.ref]) as draft:
        ProductIndex.build(own.products, own.vectors.vectors(np.arange(60)), graded, bands).save(draft.path)
    ended = raylevance("tune", "hybrid", "--store", shop, "--set", "index=index/graded")
    assert ended.code == 1 and "which learned from the queries of this comparison" in ended.err


def test_an_encoder_that_learned_from_the_queries_gains_no_weight_by_it(raylevance: Command, shop: Path) -> None:
    """The variants are compared with the vectors of the encoder before; the index keeps its own."""
    store = Store(shop)
    before, tables = store.get("encoder/shop"), store.get("tables/shop")
    with store.publish("encoder/judged", parents=[tables.ref, before.ref], settings={JUDGED_QUERIES: "3f"}) as encoder:
        Encoder.load(store.path(before.ref)).save(encoder.path)
        (encoder.path / "note").write_text("other content, so another version")
    own = ProductIndex.load(store.path("index/shop"))
    turned = own.vectors.vectors(np.arange(60)[::-1].copy())
    assert isinstance(own.shards, LocalShards)
    [shard] = own.shards.shards
    index = ProductIndex.build(own.products, turned, ProductIndexSettings()).with_lexical(shard.lexical, own.fusion)
    with store.publish("index/judged", parents=[tables.ref, encoder.ref]) as draft:
        index.save(draft.path)
    outcomes = [
        json.loads(raylevance("tune", "hybrid", "--store", shop, "--set", f"index={name}", "--json").out)
        for name in ("index/shop", "index/judged")
    ]
    assert outcomes[0]["vectors"] == outcomes[1]["vectors"] == before.ref
    assert outcomes[0]["systems"] == outcomes[1]["systems"]
    published = ProductIndex.load(store.path(outcomes[1]["index"]))
    np.testing.assert_array_equal(published.vectors.vectors(np.arange(60)), turned)


def test_without_json_every_system_is_a_row(raylevance: Command, shop: Path) -> None:
    ended = raylevance("tune", "hybrid", "--store", shop, "--set", "index=index/shop")
    assert ended.code == 0, ended.err
    for name in (*families_by_name(), "BM25, title, brand and colour", "BM25F", "dense", "tuned"):
        assert name in ended.out
    assert "serve it: raylevance serve --index index/shop-tuned" in ended.out


def test_no_test_query_is_looked_at(raylevance: Command, shop: Path, tmp_path: Path) -> None:
    """Judgements of test queries turned upside down change nothing."""
    store, other = Store(shop), Store(tmp_path / "store")
    tables = store.path("tables/shop")
    with other.publish("encoder/shop") as encoder:
        Encoder.load(store.path("encoder/shop")).save(encoder.path)
    with other.publish("tables/shop") as draft:
        for name in ("products", "queries", "judgements"):
            (draft.path / name).mkdir()
            table = pq.read_table(tables / name)
            if name == "judgements":
                rows = table.to_pylist()
                rows = [row | ({"grade": 2 - row["grade"]} if row["split"] == "test" else {}) for row in rows]
                table = pa.Table.from_pylist(rows, JUDGEMENTS)
            pq.write_table(table, draft.path / name / "part-0.parquet")
    with other.publish("index/shop", parents=[encoder.ref, draft.ref]) as index:
        ProductIndex.load(store.path("index/shop")).save(index.path)
    outcomes = [
        json.loads(raylevance("tune", "hybrid", "--store", root, "--set", "index=index/shop", "--json").out)
        for root in (shop, tmp_path / "store")
    ]
    assert outcomes[0]["systems"] == outcomes[1]["systems"]
    assert outcomes[0]["variant"] == outcomes[1]["variant"]


def test_a_report_ranks_as_the_index_answers(shop: Path) -> None:
    store = Store(shop)
    judged, encoder = JudgedTables.open(store.path("tables/shop")), load_encoder(store, "encoder/shop")
    index = ProductIndex.build(judged.products, encoder.encode_products(judged.products), ProductIndexSettings())
    texts = judged.queries["query"].to_pylist()
    answers = index.search(texts, encoder.encode_queries(texts), 60)
    run = rank_hybrid(judged, encoder)["hybrid"]
    for query, hits in zip(judged.queries["query_id"].to_pylist(), answers, strict=True):
        assert run[query] == pytest.approx({hit.product_id: hit.score for hit in hits}, abs=1e-5)
        assert list(run[query]) == [hit.product_id for hit in hits]


def test_the_row_of_bm25f_reads_words_alone(shop: Path) -> None:
    """Neither the categories of the best products nor a word that a query excludes change it."""
    judged, rng = JudgedTables.open(Store(shop).path("tables/shop")), np.random.default_rng(3)
    paths = pa.array([[KINDS[place]] for place in rng.integers(0, 6, 60)], pa.list_(pa.string()))
    products = judged.products.set_column(judged.products.schema.get_field_index("category"), "category", paths)
    texts = ["red lamp without matt", "glossy kettle", "blue not glossy table"]
    queries = judged.queries.slice(0, 3).set_column(1, "query", pa.array(texts))
    asked, ranker = JudgedTables(products, queries, judged.judgements), VariantRanker(products)
    vectors = VectorIndex.build(np.eye(60, dtype=np.float32), IndexSettings(kind="exact"))

    def ranked(variant: Variant) -> list[list[int]]:
        return [
            row[row >= 0].tolist() for row in ranker.rank(asked, vectors, np.eye(3, 60, dtype=np.float32), variant)[1]
        ]

    words = ranker.lexical(LexicalSettings()).search(texts, 60)[1]
    alone = ranked(only_words := words_alone(LexicalSettings()))
    for found, expected in zip(alone, words, strict=True):
        count = int((expected >= 0).sum())
        assert found[:count] == expected[:count].tolist()
    read_all = only_words.fusion.model_copy(update={"excluded_weight": 1.5, "category_weight": 2})
    assert ranked(only_words.model_copy(update={"fusion": read_all})) != alone


def test_too_few_queries_are_refused(raylevance: Command, tiny_backbone: Path, tmp_path: Path) -> None:
    publish_shop(tmp_path, tiny_backbone, queries=19)
    ended = raylevance("tune", "hybrid", "--store", tmp_path, "--set", "index=index/shop")
    assert ended.code == 1
    assert "19 judged queries outside the test split are too few" in ended.err and "judge 20 or more" in ended.err
    assert "index/shop-tuned" not in Store(tmp_path).names()


def test_wrong_calls_are_refused(raylevance: Command, shop: Path) -> None:
    ended = raylevance("tune", "hybrid", "--store", shop, "--trials", "3")
    assert ended.code == 2 and "--trials: tune hybrid compares all of its variants" in ended.err
    ended = raylevance("tune", "hybrid", "--store", shop, "--set", "index=encoder/shop")
    assert ended.code == 2 and "encoder/shop: not an index" in ended.err
    ended = raylevance("tune", "hybrid", "--store", shop, "--set", "index=index/none")
    assert ended.code == 1 and "index/none" in ended.err


@given(
    values=st.lists(st.lists(st.integers(0, 4), min_size=8, max_size=8), min_size=2, max_size=4),
    folds=st.permutations([0, 0, 0, 1, 1, 1, 2, 2]),
)
def test_a_query_is_measured_by_what_other_folds_chose(values: list[list[int]], folds: list[int]) -> None:
    figures, parts = np.array(values, np.float64), np.array(folds)
    measured = {"one": figures[:1], "others": figures[1:]}
    found = held_out(measured, parts)
    for query, fold in enumerate(folds):
        others = parts != fold
        means = {name: each[choose(each[:, others])][others].mean() for name, each in measured.items()}
        family = "one" if round(means["one"], 9) >= round(means["others"], 9) else "others"
        assert found[query] == measured[family][choose(measured[family][:, others])][query]
    changed = figures.copy()
    changed[:, 0] = changed[::-1, 0]
    same_fold = parts == parts[0]
    again = held_out({"one": changed[:1], "others": changed[1:]}, parts)
    assert (again == found)[same_fold][1:].all(), "a query has no say in its own fold"


def test_the_default_is_kept_unless_another_is_better_by_a_standard_error() -> None:
    rng = np.random.default_rng(0)
    default = rng.random(50)
    noise = rng.standard_normal(50)
    noise -= noise.mean()
    error = noise.std(ddof=1) / np.sqrt(50)
    assert choose(np.stack([default, default + noise + 0.9 * error])) == 0
    assert choose(np.stack([default, default + noise + 1.1 * error])) == 1
    assert choose(np.stack([default, default])) == 0
    assert choose_family({"one": default[None], "other": default[None]}) == "one"


def families_by_name() -> dict[str, int]:
    return {name: len(variants) for name, variants in families(ProductIndexSettings().lexical).items()}


def test_families_differ_in_dense_weight_alone() -> None:
    for variants in families(ProductIndexSettings().lexical).values():
        bare = {
            variant.model_copy(update={"fusion": variant.fusion.model_copy(update={"dense_weight": 0})})
            for variant in variants
        }
        assert len(bare) == 1 and variants[0].fusion.dense_weight == 0.5
