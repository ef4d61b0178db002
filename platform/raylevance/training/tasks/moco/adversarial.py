"""FGM: a second pass on word embeddings moved to where the loss grows fastest.

Source: Miyato et al. 2017 (arXiv 1605.07725), who move the embeddings of one text by epsilon * g / ||g||_2. The CIKM
2022 paper (DOI 10.1145/3511808.3557143) names an adversarial attack without details; to move the table of all words, by
one norm a step, is our choice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from raylevance.models.encoder import Encoder
from raylevance.models.tokenizer import Side
from raylevance.training.collective import sum_over_workers


def word_embedding(encoder: Encoder, side: Side) -> torch.nn.Module:
    """Token ids to word embeddings, for texts of one side."""
    tower = encoder.query_tower if side == "query" else encoder.item_tower
    embedding: torch.nn.Module = tower.get_input_embeddings()
    return embedding


def word_tables(encoder: Encoder) -> list[torch.nn.Parameter]:
    """The word-embedding tables of the encoder: one where it is tied, else one a side."""
    towers = (encoder.query_tower, encoder.item_tower)
    return list(dict.fromkeys(tower.get_input_embeddings().weight for tower in towers))


@contextmanager
def perturbed(tables: Sequence[torch.nn.Parameter], epsilon: float) -> Iterator[None]:
    """Inside the block each table is moved by r = epsilon * g / ||g||_2, g being its gradient over all workers.

    Every worker must enter it equally often. A table without gradient is not moved. At the end the tables are what they
    were, to the bit; gradients are left as they are, so those of a backward inside the block add up with g.
    """
    kept = [table.detach().clone() for table in tables]
    try:
        for table in tables:
            gradient = sum_over_workers(torch.zeros_like(table) if table.grad is None else table.grad)
            length = gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
            table.data.add_(gradient / length, alpha=epsilon)
        yield
    finally:
        for table, values in zip(tables, kept, strict=True):
            table.data.copy_(values)
