"""Measure how many item texts are longer than an encoder reads."""

from dataclasses import replace
from pathlib import Path

from raylevance.data.text import ProductText
from raylevance.inference.embeddings import read_rows
from raylevance.models.encoder import load_encoder_tokenizer
from raylevance.progress import status

SAMPLE = 10_000
"""The largest number of products that are looked at."""


def share_of_cut_texts(encoder: Path, products: Path, text: ProductText) -> float:
    """Return the share of item texts that the encoder in the folder `encoder` cuts, and say it if there are any.

    These are the texts of the first 10,000 rows of the folder `products`. A text loses its end, which is the category
    of the product, or the details where there are any.
    """
    tokenizer = load_encoder_tokenizer(encoder)
    limit = tokenizer.limits["item"]
    one_more = replace(tokenizer, limits={**tokenizer.limits, "item": limit + 1})
    tokens = one_more(text.compose(read_rows(products, 0, SAMPLE, text.columns)), "item")
    cut = sum(len(ids) > limit for ids in tokens)
    if cut:
        status(
            f"{cut} of {len(tokens)} item texts are longer than encoder.max_item_tokens={limit} and lose their ends; "
            "raise it to read more of them, at more time for each"
        )
    return cut / max(1, len(tokens))
