"""The queries table: intents put into words as customers do."""

import numpy as np
import pyarrow as pa

from raylevance.data.demo.columns import QUERY, identifiers
from raylevance.data.demo.intents import LONG_TAIL, Intent
from raylevance.data.demo.lexicon import ATTRIBUTES, BRAND, COLOUR, MATERIAL, SIZE, STYLE, TYPE, words
from raylevance.data.demo.products import LOCALE
from raylevance.data.demo.randomness import Draws
from raylevance.data.demo.relevance import ANY
from raylevance.data.demo.shop import Shop
from raylevance.data.demo.vocabulary import AFTER_THE_TYPE, LEAVES, LONG_TAIL_FRAMES, NEED_FRAMES, NEEDS
from raylevance.data.schema import QUERIES
from raylevance.data.spelling import misspell

TYPE_FIRST_SHARE = 0.25
"""How often the type leads, as in `sofa grey velvet`."""


def queries(shop: Shop, start: int, stop: int) -> pa.Table:
    """Rows `start` to `stop` of the queries table, the most popular query first."""
    numbers = np.arange(start, stop)
    columns = {
        "query_id": identifiers(QUERY, numbers),
        "query": pa.array(query_texts(shop.intents.of(numbers), shop.settings.seed), pa.string()),
        "locale": pa.repeat(pa.scalar(LOCALE, pa.string()), len(numbers)),
    }
    return pa.table(columns, schema=QUERIES)


def query_texts(intent: Intent, seed: int) -> list[str]:
    """What is typed for each of n intents."""
    frames = Draws(seed, "query frame").bits(intent.queries).tolist()
    slips = Draws(seed, "query slip").bits(intent.queries).tolist()
    texts = []
    for index, (names, scope) in enumerate(zip(_named(intent, seed), intent.scope, strict=True)):
        if scope >= len(LEAVES):
            texts.append(_framed(NEED_FRAMES, list(NEEDS)[scope - len(LEAVES)], frames[index]))
            continue
        text = _ordered(names, type_first=frames[index] % 997 < 997 * TYPE_FIRST_SHARE)
        if intent.kind[index] == LONG_TAIL:
            text = _framed(LONG_TAIL_FRAMES, text, frames[index] >> 16)
        texts.append(misspell(text, np.random.default_rng(slips[index])) if intent.misspelt[index] else text)
    return texts


def _named(intent: Intent, seed: int) -> list[dict[int, str]]:
    """For each query, the words of the attributes it names."""
    named: list[dict[int, str]] = [{} for _ in intent.queries]
    for attribute, lexicon in enumerate(words().lexicons):
        stated = np.flatnonzero(intent.wanted[attribute] != ANY)
        uniform = Draws(seed, f"query form {ATTRIBUTES[attribute]}").uniform(intent.queries[stated])
        forms = lexicon.forms.take(pa.array(lexicon.any_forms(intent.wanted[attribute][stated], uniform)))
        for index, form in zip(stated, forms.to_pylist(), strict=True):
            named[index][attribute] = form.lower()
    return named


def _ordered(names: dict[int, str], type_first: bool) -> str:
    order = (TYPE, BRAND, COLOUR, MATERIAL, STYLE, SIZE) if type_first else (BRAND, COLOUR, STYLE, MATERIAL, TYPE, SIZE)
    present = [(attribute, names[attribute]) for attribute in order if attribute in names]
    last = [name for attribute, name in present if attribute != TYPE and name.startswith(AFTER_THE_TYPE)]
    return " ".join([name for _, name in present if name not in last] + last)


def _framed(frames: tuple[str, ...], text: str, bits: int) -> str:
    """`text` in one of `frames`; half of the time in the first."""
    return frames[0 if bits % 2 else (bits >> 1) % len(frames)].format(text)
