"""Audit, synthetic queries and knowledge as recipes, with a server of answers that are known."""

import csv
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.artifacts import Store
from raylevance.config import load_settings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.label_space import LabelSpace
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError, UsageError
from raylevance.inference.encoder import NamedEncoder
from raylevance.llm.synthetic import SYNTHETIC_QUERIES
from raylevance.models.encoder import EncoderSettings
from tests.conftest import Ended
from workloads.recipe import settings_type
from workloads.recipes import audit, knowledge, mine_and_refine, synthetic_queries
from workloads.recipes.synthetic_queries import finds_its_product
from workloads.run import Run
from workloads.steps.contrastive_instances import write_synthetic_pairs
from workloads.steps.label_data import KnowledgeSources, LabelPlan, LabelSettings, LabelSourceSettings, label_step
from workloads.steps.retrieval_data import SyntheticSource
from workloads.steps.warmup import WarmupSettings, warmup_step

pytestmark = pytest.mark.ray
SHOP = """
data: {source: demo, demo: {products: 300, queries: 24, events: 20000, judged_per_query: 12}}
"""
TEXTS = {
    "queries": ["a kettle for tea", "gift for a cook"],
    "broad": "a kettle for tea",
    "specific": "gift for a cook",
    "attribute": "gift for a cook",
    "use": "a kettle for tea in the morning of a long and busy day",
    "categories": ["Kitchen"],
    "products": ["kettle"],
    "description": "tea",
    "words": ["samovar"],
}


class Handler(BaseHTTPRequestHandler):
    """A grade of 1 for a judge's prompt, else `TEXTS` as JSON; each prompt is counted."""

    asked: Counter[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        self.asked[prompt] += 1
        judging = "logprobs" in body
        listed = [{"token": choice, "logprob": value} for choice, value in {"0": -3.0, "1": -0.1, "2": -4.0}.items()]
        logprobs = {"content": [{"token": "1", "logprob": -0.1, "top_logprobs": listed}]} if judging else None
        message = {"content": "1" if judging else json.dumps(TEXTS)}
        choice = {"message": message, "logprobs": logprobs, "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice], "usage": {"total_tokens": 9}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Counter[str]]]:
    Handler.asked = Counter()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", Handler.asked
        server.shutdown()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, server: tuple[str, Counter[str]]) -> Path:
    """A folder with settings for a small shop, and a judge on the server."""
    folder = tmp_path_factory.mktemp("supervision")
    (folder / "shop.yaml").write_text(SHOP)
    judge = {"backend": "endpoint", "endpoint": {"url": server[0], "model": "stub"}}
    (folder / "judge.yaml").write_text(json.dumps(judge))
    return folder


def run(recipe: Any, shop: Path, *overrides: str) -> dict[str, Any]:
    settings = load_settings(settings_type(recipe), shop / "shop.yaml", overrides)
    with Run(Store(str(shop / "store"))) as run:
        found: dict[str, Any] = recipe.recipe(settings, run).as_json()
    return found


def audit_settings(shop: Path) -> list[str]:
    shown = ["audit.sampled=1", "audit.min_exposures=1", "audit.tail=0.4"]
    return [f"judge={shop / 'judge.yaml'}", f"review={shop / 'review.csv'}", *shown]


def test_only_corrections_that_a_person_accepts_are_applied(
    shop: Path, server: tuple[str, Counter[str]], ray_cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first run writes the file, the second reads it; the judge is asked once."""
    first, store = run(audit, shop, *audit_settings(shop)), Store(str(shop / "store"))
    proposed = sum(first["changed"].values())
    assert proposed > 1 and (first["accepted"], first["rejected"], first["undecided"]) == (0, 0, proposed)
    before = pq.read_table(store.path("tables/demo") / "judgements")
    assert pq.read_table(store.path("tables/audited") / "judgements").select(before.column_names).equals(before)
    assert f"{proposed} undecided" in capfd.readouterr().err
    with (shop / "review.csv").open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == proposed and all(row["query"] and row["product_text"] for row in rows)
    rows[0]["decision"] = "accepted"
    with (shop / "review.csv").open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    asked = sum(server[1].values())
    second = run(audit, shop, *audit_settings(shop))
    assert (second["accepted"], second["rejected"], second["undecided"]) == (1, 0, proposed - 1)
    assert sum(server[1].values()) == asked
    line = capfd.readouterr().err
    assert "1 accepted and applied, 0 rejected" in line and rows[1]["correction"] in line
    after = pq.read_table(store.path("tables/audited") / "judgements").to_pylist()
    pairs = {(rows[0]["query_id"], rows[0]["product_id"])}
    assert {(row["query_id"], row["product_id"]) for row in after if row["previous_grade"] is not None} == pairs


def test_labels_that_shoppers_contradict_are_judged_again(
    shop: Path, raylevance: Callable[..., Ended], ray_cluster: None
) -> None:
    """With `--apply` all corrections are applied, and no review file is written."""
    changes = [part for change in audit_settings(shop) for part in ("--set", change)]
    changes[3] = f"review={shop / 'other.csv'}"
    options = ("--config", shop / "shop.yaml", "--store", shop / "store", "--json", "--apply")
    ended = raylevance("run", "audit", *changes, *options)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert "corrections are applied without a review" in ended.err and not (shop / "other.csv").exists()
    store = Store(str(shop / "store"))
    folder = store.path("tables/audited")
    corrections = pq.read_table(folder / "corrections").to_pylist()
    assert corrections and sum(found["changed"].values()) == len(corrections)
    assert {row["grade"] for row in corrections} == {1} and {row["previous_grade"] for row in corrections} <= {0, 2}
    before = pq.read_table(store.path("tables/demo") / "judgements").to_pylist()
    after = pq.read_table(folder / "judgements").to_pylist()
    changed = {(row["query_id"], row["product_id"]) for row in corrections}
    for old, new in zip(before, after, strict=True):
        if (old["query_id"], old["product_id"]) in changed:
            assert (new["grade"], new["previous_grade"]) == (1, old["grade"]) and new["source"].startswith("llm:judge@")
        else:
            assert new["grade"] == old["grade"] and new["previous_grade"] is None


def test_each_pair_of_a_synthetic_query_is_graded(
    shop: Path, server: tuple[str, Counter[str]], ray_cluster: None
) -> None:
    model = ["model.backend=endpoint", f"model.endpoint.url={server[0]}", "model.endpoint.model=stub"]
    every = [*model, "synthetic.share=0.2", "synthetic.found_within=null"]
    found = run(synthetic_queries, shop, f"judge={shop / 'judge.yaml'}", *every)
    folder = Store(str(shop / "store")).path("tables/synthetic")
    queries, judgements = (pq.read_table(folder / name).to_pylist() for name in ("queries", "judgements"))
    assert {row["query"] for row in queries} == {"a kettle for tea", "gift for a cook"} and found["queries"] == 2
    assert found["kinds"] == {"broad": 1, "specific": 1, "attribute": 0, "use": 0}
    answers = found["prompts"]
    assert found["dropped"] == {"too long": answers, "a duplicate": 3 * answers - 2}
    assert found["pairs"] == len(judgements) > 0
    assert {(row["grade"], row["split"]) for row in judgements} == {(1, "train")}
    assert all(row["source"].startswith("llm:judge@") for row in judgements)


def unjudged(url: str, found_within: str = "null") -> list[str]:
    """Settings of synthetic queries without a judge, of one kind, by the model at `url`."""
    model = ["model.backend=endpoint", f"model.endpoint.url={url}", "model.endpoint.model=stub"]
    kept = ["synthetic.share=0.2", f"synthetic.found_within={found_within}", "synthetic.kinds=[broad]"]
    return [*model, "judge=null", *kept]


def test_without_a_judge_the_own_product_is_the_positive_of_the_warm_up_alone(
    shop: Path, server: tuple[str, Counter[str]], ray_cluster: None
) -> None:
    found, store = run(synthetic_queries, shop, *unjudged(server[0])), Store(str(shop / "store"))
    folder = store.path("tables/synthetic-unjudged")
    [query], [judgement] = (pq.read_table(folder / name).to_pylist() for name in ("queries", "judgements"))
    assert query["query"] == "a kettle for tea" and judgement["query_id"] == query["query_id"]
    assert (judgement["grade"], judgement["source"], found["judge"]) == (2, "synthetic:own-product", None)
    with pytest.raises(UsageError, match=r"nobody judged its pairs; set warmup\.synthetic"):
        SyntheticSource(tables="tables/synthetic-unjudged").check(store)


def test_the_round_trip_of_the_recipe_keeps_what_finds_its_product(
    shop: Path, server: tuple[str, Counter[str]], tiny_backbone: Path, ray_cluster: None
) -> None:
    """The query that all products get is dropped where its product is not the first, and the count says so."""
    every = [*unjudged(server[0], "1"), "synthetic.seed=1"]
    asked = sum(server[1].values())
    with pytest.raises(RaylevanceError, match="no/encoder: no such folder"):
        run(synthetic_queries, shop, *every, "encoder=no/encoder")
    assert sum(server[1].values()) == asked, "refused before the model is asked"
    found = run(synthetic_queries, shop, *every, f"encoder={tiny_backbone}")
    kept = pq.read_table(Store(str(shop / "store")).path("tables/synthetic-unjudged") / "queries")
    assert found["dropped"].get("its product is not found", 0) + kept.num_rows == 1
    assert kept.num_rows == found["queries"]


def test_a_query_that_does_not_find_its_product_is_told_apart(
    shop: Path, server: tuple[str, Counter[str]], tiny_backbone: Path, ray_cluster: None
) -> None:
    """A title finds its own product by its words, and not the product whose title it is not."""
    products = pq.read_table(Store(str(shop / "store")).path("tables/demo") / "products")
    rows = products.select(["product_id", "title"]).to_pylist()[::40]
    titles = [
        {"query_id": f"t{n}", "query": row["title"], "product_id": row["product_id"]} for n, row in enumerate(rows)
    ]
    wrong = [{**row, "query_id": f"w{n}", "query": titles[n - 1]["query"]} for n, row in enumerate(titles)]
    written = pa.Table.from_pylist([*wrong, *titles], SYNTHETIC_QUERIES)
    encoder = NamedEncoder(tiny_backbone, None, None)
    assert finds_its_product(written, products, encoder, 3).tolist() == [False] * len(wrong) + [True] * len(titles)
    assert finds_its_product(written.slice(0, 0), products, encoder, 3).tolist() == []


def test_pairs_of_synthetic_queries_join_the_warm_up(shop: Path, tmp_path: Path, ray_cluster: None) -> None:
    """Their texts are those of the products; people's queries and products of other tables are left out."""
    tables, text = Store(str(shop / "store")).path("tables/demo"), ProductText()
    products = pq.read_table(tables / "products")
    people = pq.read_table(tables / "queries")["query"][0].as_py()
    ids = products["product_id"].to_pylist()
    written = {"s1": ("mug for two", ids[7], 2), "s2": (f" {people.upper()}", ids[3], 2), "s3": ("lamp", "gone", 2)}
    written |= {"s4": ("chair", ids[5], 1), "s5": ("tea cup", ids[2], 2)}
    rows = [
        {"query_id": key, "query": query, "product_id": product, "grade": grade, "split": "train"}
        for key, (query, product, grade) in written.items()
    ]
    rows += [rows[0], rows[0] | {"product_id": ids[9], "split": "test"}]
    for name in ("queries", "judgements"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows[::-1] if name == "queries" else rows), tmp_path / name / "0.parquet")
    (tmp_path / "out").mkdir()
    counts = write_synthetic_pairs(tmp_path, tables, tmp_path / "out", text)
    assert counts == {"pairs": 2, "of a query of the tables": 1, "of another product": 1}
    found = pq.read_table(tmp_path / "out").to_pylist()
    texts = text.compose(products)
    assert [(row["query"], row["items"]) for row in found] == [("mug for two", [texts[7]]), ("tea cup", [texts[2]])]
    of_another_shop = [row | {"product_id": f"other {row['product_id']}"} for row in rows]
    for changed, message in (
        (of_another_shop, "no query with a relevant product"),
        ([*rows, rows[0] | {"query_id": "x"}], "is of query x"),
    ):
        pq.write_table(pa.Table.from_pylist(changed), tmp_path / "judgements/0.parquet")
        with pytest.raises(RaylevanceError, match=message):
            write_synthetic_pairs(tmp_path, tables, tmp_path / "out", text)


def test_synthetic_queries_join_the_training_ones(shop: Path, ray_cluster: None) -> None:
    """One of the two, for 12 training queries and a share of 10%; none picks the best step."""
    options = ["synthetic.tables=tables/synthetic", "synthetic.share=0.1"]
    settings = load_settings(mine_and_refine.MineAndRefineSettings, shop / "shop.yaml", options)
    with Run(Store(str(shop / "store"))) as run:
        judged = JudgedTables.open(run.store.path(run.store.get("tables/demo").ref))
        data = mine_and_refine.split_queries(settings, run, run.store.get("tables/demo"), judged)
        with pytest.raises(RaylevanceError, match="tables/synthetik"):
            wrong = load_settings(mine_and_refine.MineAndRefineSettings, None, ["synthetic.tables=tables/synthetik"])
            mine_and_refine.check_settings(wrong, run.store)
    learned, plain, validation = data.train, data.human_train, data.validation
    added = set(learned.queries["query_id"].to_pylist()) - set(plain.queries["query_id"].to_pylist())
    assert len(added) == 1 and learned.queries.num_rows == plain.queries.num_rows + 1
    assert added <= set(learned.judgements["query_id"].to_pylist())
    assert not added & set(validation.queries["query_id"].to_pylist())
    assert [source.name for source in data.synthetic] == ["tables/synthetic"]


@pytest.mark.long
def test_a_warm_up_learns_from_synthetic_queries_and_counts_them(
    shop: Path, server: tuple[str, Counter[str]], tiny_backbone: Path, ray_cluster: None
) -> None:
    """Another encoder comes out of it, so the step is another one."""
    synthetic = run(synthetic_queries, shop, *unjudged(server[0]))["artifacts"]["tables/synthetic-unjudged"]
    settings = load_settings(mine_and_refine.MineAndRefineSettings, shop / "shop.yaml", [])
    encoder = EncoderSettings(backbone=str(tiny_backbone))
    with Run(Store(str(shop / "store"))) as opened:
        tables = opened.store.get("tables/demo")
        judged = JudgedTables.open(opened.store.path(tables.ref))
        data = mine_and_refine.split_queries(settings, opened, tables, judged)
        train = WarmupSettings().train.model_copy(update={"max_steps": 1, "batch": 8})
        found = {
            name: warmup_step(data, f"-{name}", WarmupSettings(synthetic=ref, train=train), encoder, read_log=False)
            for name, ref in {"with": synthetic, "without": None}.items()
        }
    assert found["with"].metrics["synthetic"] == {"pairs": 1, "of a query of the tables": 0, "of another product": 0}
    assert "synthetic" not in found["without"].metrics and found["with"].fingerprint != found["without"].fingerprint


def test_knowledge_is_asked_for_once(shop: Path, server: tuple[str, Counter[str]], ray_cluster: None) -> None:
    model = ["model.backend=endpoint", f"model.endpoint.url={server[0]}", "model.endpoint.model=stub"]
    found = run(knowledge, shop, *model)
    folder = Store(str(shop / "store")).path("tables/knowledge")
    rows = pq.read_table(folder / "knowledge").to_pylist()
    assert found["quarantined"] == 0 and len({row["query_id"] for row in rows}) == 24
    assert "tea" in {row["text"] for row in rows}
    asked = sum(server[1].values())
    settings = load_settings(knowledge.KnowledgeSettings, shop / "shop.yaml", model)
    with Run(Store(str(shop / "store")), fresh=True) as again:
        knowledge.recipe(settings, again)
    assert sum(server[1].values()) == asked, "a fresh run finds the answers in the ledger"


def test_a_classifier_reads_what_was_written_about_labels(
    shop: Path, server: tuple[str, Counter[str]], ray_cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Texts of labels that the classifier does not have are counted, and so are its labels without a text."""
    model = ["model.backend=endpoint", f"model.endpoint.url={server[0]}", "model.endpoint.model=stub"]
    found = run(knowledge, shop, *model, "labels={taxonomy_levels: 2}")
    store = Store(str(shop / "store"))
    written = pq.read_table(store.path("tables/knowledge") / "label_knowledge")
    products = JudgedTables.open(store.path("tables/demo")).products.to_pylist()
    paths = [row["category"] for row in products]
    named = {" > ".join(path[:depth]) for path in paths for depth in (1, 2)}
    assert sorted(written["label_id"].to_pylist()) == sorted(named) and found["label_texts"] == len(named)
    assert set(written["task"].to_pylist()) == {"category"}
    shown = [prompt for prompt in server[1] if f"Category: {paths[0][0]}\n" in prompt]
    titles = {row["title"] for row in products if row["category"][0] == paths[0][0]}
    assert len(shown) == 1 and len([title for title in titles if title in shown[0]]) == 5
    sources = LabelSourceSettings(titles=0.3, clicks=0)
    with Run(store) as opened:
        tables = store.get("tables/demo")
        deeper = len({" > ".join(path[:3]) for path in paths if len(path) > 2})
        for levels, others in {2: 0, 1: len(named) - len({path[0] for path in paths}), 3: 0}.items():
            labels = LabelSettings(taxonomy_levels=levels)
            plan = LabelPlan(labels, sources, KnowledgeSources(world="tables/knowledge"), 0.2, 0.2, 0)
            made = label_step(opened, tables, plan, f"-{levels}")
            texts = LabelSpace.open(store.path(made.ref)).labels["text"].to_pylist()
            described = [text for text in texts if text.endswith("tea samovar a kettle for tea, gift for a cook")]
            lacking = deeper if levels == 3 else 0
            assert made.metrics["labels_described"] == len(described) == len(texts) - lacking
            said = capfd.readouterr().err
            counted = f"texts about {others} labels that are not among the {len(texts)} here are not read"
            assert (counted in said) == bool(others)
            assert (f"{lacking} of {len(texts)} labels have no text; run knowledge" in said) == bool(lacking)
    with pytest.raises(UsageError, match=r"labels\.file=.*none\.csv: no such file"):
        run(knowledge, shop, *model, f"labels={{file: {shop / 'none.csv'}}}")
