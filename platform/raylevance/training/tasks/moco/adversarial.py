"""FGM, the fast gradient method: a second pass with the word embeddings moved in the direction in which the loss grows.

Source: Miyato et al. 2017 (arXiv 1605.07725), who move the embeddings of one text by epsilon * g / ||g||_2. The CIKM
2022 paper (DOI 10.1145/3511808.3557143) names an adversarial attack without details. Moving the table of all words, by
one norm for the whole step, is our choice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from raylevance.models.encoder import Encoder
from raylevance.models.tokenizer import Side
from raylevance.training.collective import sum_over_workers


def word_embedding(encoder: Encoder, side: Side) -> torch.nn.Module:
    """Return the module that maps token ids to word embeddings for texts of one side."""
    tower = encoder.query_tower if side == "query" else encoder.item_tower
    embedding: torch.nn.Module = tower.get_input_embeddings()
    return embedding


def word_tables(encoder: Encoder) -> list[torch.nn.Parameter]:
    """Return the word-embedding tables of the encoder: one if it is tied, else one for each side."""
    towers = (encoder.query_tower, encoder.item_tower)
    return list(dict.fromkeys(tower.get_input_embeddings().weight for tower in towers))


@contextmanager
def perturbed(tables: Sequence[torch.nn.Parameter], epsilon: float) -> Iterator[None]:
    """Inside the block, move each table by epsilon * g / ||g||_2, where g is its gradient summed over all workers.

    A table without a gradient is not moved. After the block the tables are restored to the bit. Gradients are not
    reset, so a backward pass inside the block adds to g. Every worker must enter the block equally often.
    """
    originals = [table.detach().clone() for table in tables]
    try:
        for table in tables:
            gradient = sum_over_workers(torch.zeros_like(table) if table.grad is None else table.grad)
            length = gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
            table.data.add_(gradient / length, alpha=epsilon)
        yield
    finally:
        for table, original in zip(tables, originals, strict=True):
            table.data.copy_(original)
