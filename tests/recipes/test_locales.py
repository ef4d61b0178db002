"""The recipe on a shop in three languages: a query is mined, ranked and reported among the products of its locale."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raylevance.artifacts import Store
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText
from raylevance.demo import DemoSettings
from raylevance.demo.generating import layouts
from raylevance.demo.shop import Shop
from raylevance.evaluation.ranking_metrics import read_run
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.models.encoder import Vectors
from raylevance.training.tasks.contrastive.ranking import RankingEvaluation
from workloads.recipe import find_recipe, load_recipe_settings, run_recipe
from workloads.steps.retrieval_report import by_locale
from workloads.steps.systems import DEPTH, as_run, rank_baselines, rank_dense

SHOP = """
data: {source: demo, demo: {products: 360, queries: 36, events: 500, judged_per_query: 12, seed: 1,
  locales: [us, es, jp]}}
warmup: {train: {max_steps: 1}}
stage1: {train: {max_steps: 1}}
mining: {unjudged: skip, k: 20}
stage2: {train: {max_steps: 1}}
"""
SYSTEMS = ["random", "bm25", "zero_shot", "warm-up", "stage 1", "bm25f", "stage 2", "hybrid"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None, tiny_backbone: Path) -> Store:
    folder = tmp_path_factory.mktemp("locales")
    (folder / "shop.yaml").write_text(SHOP + f"encoder: {{backbone: {tiny_backbone}}}\n")
    recipe = find_recipe("mine-and-refine")
    run_recipe(recipe, load_recipe_settings(recipe, folder / "shop.yaml", []), str(folder / "store"), fresh=False)
    return Store(folder / "store")


@pytest.fixture(scope="module")
def locale_of(store: Store) -> Mapping[str, str]:
    """The locale of every query and product, by id."""
    locales: dict[str, str] = {}
    for name, key in (("queries", "query_id"), ("products", "product_id")):
        table = pq.read_table(store.path("tables/demo") / name)
        locales |= zip(table[key].to_pylist(), table["locale"].to_pylist(), strict=True)
    return locales


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_query_finds_products_of_its_locale(store: Store, locale_of: Mapping[str, str], system: str) -> None:
    run = read_run(store.path("report/mine-and-refine") / f"{system.replace(' ', '')}.run")
    assert {locale_of[query] for query in run} == {"us", "es", "jp"}
    for query, scores in run.items():
        assert scores and {locale_of[product] for product in scores} == {locale_of[query]}


@pytest.mark.long
@pytest.mark.ray
def test_what_is_mined_is_of_the_querys_locale(store: Store, locale_of: Mapping[str, str]) -> None:
    mined = pq.read_table(store.path("pairs/mined") / "mined.parquet").to_pylist()
    assert mined and all(locale_of[pair["query_id"]] == locale_of[pair["product_id"]] for pair in mined)


@pytest.mark.long
@pytest.mark.ray
def test_the_report_has_figures_by_locale(store: Store) -> None:
    folder = store.path("report/mine-and-refine")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert list(report["locales"]) == ["es", "jp", "us"]
    assert sum(locale["queries"] for locale in report["locales"].values()) == report["queries"]
    for locale in report["locales"].values():
        assert sorted(locale["systems"]) == sorted(SYSTEMS)
        assert locale["systems"]["bm25"]["ndcg@10"] > locale["systems"]["random"]["ndcg@10"]
        for figures in locale["systems"].values():
            low, high = figures["ci95"]["ndcg@10"]
            assert 0 <= low <= figures["ndcg@10"] <= high <= 1
    assert "By locale" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def judged() -> JudgedTables:
    """A shop in three languages; one product and one query name no locale."""
    shop = Shop(DemoSettings(products=600, queries=60, events=0, judged_per_query=12, locales=("us", "es", "jp")))
    made = {name: layout.rows(shop, 0, layout.units) for name, layout in layouts(shop).items() if name != "events"}
    for name in ("products", "queries"):
        locales = made[name]["locale"].to_pylist()
        place = made[name].column_names.index("locale")
        made[name] = made[name].set_column(place, "locale", pa.array([None, *locales[1:]]))
    return JudgedTables(**made)


def vectors(rows: int) -> Vectors:
    random = np.random.default_rng(rows).normal(size=(rows, 16)).astype(np.float32)
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def test_the_whole_catalogue_of_a_locale_is_ranked(judged: JudgedTables) -> None:
    queries, products = vectors(60), vectors(600)
    dense = as_run(judged, *rank_dense(judged, queries, VectorIndex.build(products, IndexSettings(kind="exact"))))
    runs = {**rank_baselines(judged, 0), "dense": dense}
    locale = dict(zip(*(judged.products[name].to_pylist() for name in ("product_id", "locale")), strict=True))
    names = zip(*(judged.queries[name].to_pylist() for name in ("query_id", "locale")), strict=True)
    for row, (query, own) in enumerate(names):
        kept = [place for place, found in enumerate(locale.values()) if own is None or found == own]
        cosines = products[kept] @ queries[row]
        nearest = [list(locale)[kept[place]] for place in np.argsort(-cosines)[:DEPTH]]
        assert list(runs["dense"][query]) == nearest and len(runs["random"][query]) == DEPTH
        for run in runs.values():
            assert own is None or {locale[product] for product in run[query]} <= {own}


def test_bm25_finds_words_in_every_language(judged: JudgedTables) -> None:
    runs = rank_baselines(judged, 0)
    figures = by_locale(runs, judged)["locales"]
    assert [figures[locale]["queries"] for locale in ("us", "es", "jp")] == [19, 20, 20]
    for locale in figures.values():
        assert locale["systems"]["bm25"]["ndcg@10"] > 0.4 > locale["systems"]["random"]["ndcg@10"]


class Foreigner:
    """An encoder to which every product of another locale, the next one, is nearest."""

    def __init__(self, ranking: RankingEvaluation, locale_of: Mapping[str, str | None]) -> None:
        self._places = {None: 3, "us": 0, "es": 1, "jp": 2}
        self._queries = [self._places[locale] for locale in ranking.queries["locale"].to_pylist()]
        self._products = [self._places[locale_of[product]] for product in ranking.product_ids]

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return np.eye(4, dtype=np.float32)[(np.array(self._queries) + 1) % 3]

    def encode_items(self, texts: Sequence[str]) -> Vectors:
        return np.eye(4, dtype=np.float32)[self._products]


def test_steps_of_a_training_are_measured_within_locales(judged: JudgedTables) -> None:
    ranking = RankingEvaluation.of(judged, ProductText())
    locales = dict(zip(*(judged.products[name].to_pylist() for name in ("product_id", "locale")), strict=True))
    encoder = cast(Any, Foreigner(ranking, locales))
    assert ranking(encoder)["ndcg@10"] > 0.01 > replace(ranking, groups=None)(encoder)["ndcg@10"]


def test_one_locale_is_searched_as_a_whole(judged: JudgedTables) -> None:
    one = replace(judged, products=judged.products.filter(pc.equal(judged.products["locale"], "es")))
    assert one.locale_groups() is None and one.locales() == [] and by_locale({}, one) == {}
