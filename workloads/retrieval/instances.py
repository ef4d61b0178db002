"""Instances for the trainings of Mine and Refine, from the tables of a recipe."""

import shutil
from pathlib import Path

import ray.data

from raylevance.data.instances import InstanceSettings, write_instances
from raylevance.data.pseudo_queries import pseudo_queries
from raylevance.data.spelling import SpellingSettings
from raylevance.data.text import ProductText
from workloads.judged import Judged


def write_pseudo_queries(
    products: Path, output: Path, text: ProductText, per_product: int, seed: int, category_share: float
) -> None:
    """Warm-up instances of the table `products`, written anew: a killed run may have left half of them."""
    shutil.rmtree(output, ignore_errors=True)
    rows = ray.data.read_parquet(str(products))
    pseudo_queries(rows, text, per_product, seed, category_share).write_parquet(str(output))


def write_judged_instances(
    judged: Judged,
    output: Path,
    text: ProductText,
    settings: InstanceSettings,
    spelling: SpellingSettings,
    seed: int,
) -> None:
    """Instances of the judged queries, written anew."""
    shutil.rmtree(output, ignore_errors=True)
    judgements, queries, products = map(ray.data.from_arrow, (judged.judgements, judged.queries, judged.products))
    write_instances(judgements, queries, products, output, text, settings, spelling, seed)
