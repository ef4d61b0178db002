"""The queries table: intents put into words as customers do."""

import numpy as np
import pyarrow as pa

from raylevance.data.schema import QUERIES
from raylevance.data.spelling import misspell
from raylevance.demo.columns import QUERY, identifiers
from raylevance.demo.intents import LONG_TAIL, Intent
from raylevance.demo.lexicon import ATTRIBUTES, words
from raylevance.demo.randomness import Draws, Ints
from raylevance.demo.relevance import ANY
from raylevance.demo.shop import Shop, Storefront
from raylevance.demo.vocabulary import LEAVES
from raylevance.demo.vocabulary.language import Language

TYPE_FIRST_SHARE = 0.25
"""How often a query has the language's second phrasing, as in `sofa grey velvet`."""


def queries(shop: Shop, start: int, stop: int) -> pa.Table:
    """Rows `start` to `stop` of the queries table, the most popular query first."""
    return shop.table(start, stop, _queries)


def _queries(storefront: Storefront, own: Ints) -> pa.Table:
    columns = {
        "query_id": identifiers(QUERY, storefront.numbers(own)),
        "query": pa.array(query_texts(storefront, storefront.intents.of(own)), pa.string()),
        "locale": pa.repeat(pa.scalar(storefront.locale, pa.string()), len(own)),
    }
    return pa.table(columns, schema=QUERIES)


def query_texts(storefront: Storefront, intent: Intent) -> list[str]:
    """What is typed for each of n intents, in the language of the storefront."""
    language = storefront.language
    frames = Draws(storefront.seed, "query frame").bits(intent.queries).tolist()
    slips = Draws(storefront.seed, "query slip").bits(intent.queries).tolist()
    texts = []
    for index, (names, scope) in enumerate(zip(_named(storefront, intent), intent.scope, strict=True)):
        if scope >= len(LEAVES):
            texts.append(_framed(language.need_frames, language.needs[scope - len(LEAVES)], frames[index]))
            continue
        text = _ordered(names, language, type_first=frames[index] % 997 < 997 * TYPE_FIRST_SHARE)
        if intent.kind[index] == LONG_TAIL:
            text = _framed(language.long_tail_frames, text, frames[index] >> 16)
        texts.append(misspell(text, np.random.default_rng(slips[index])) if intent.misspelt[index] else text)
    return texts


def _named(storefront: Storefront, intent: Intent) -> list[dict[str, str]]:
    """For each query, the words of the attributes it names."""
    named: list[dict[str, str]] = [{} for _ in intent.queries]
    for name, wanted, lexicon in zip(ATTRIBUTES, intent.wanted, words(storefront.locale).lexicons, strict=True):
        stated = np.flatnonzero(wanted != ANY)
        uniform = Draws(storefront.seed, f"query form {name}").uniform(intent.queries[stated])
        forms = lexicon.forms.take(pa.array(lexicon.any_forms(wanted[stated], uniform)))
        for index, form in zip(stated, forms.to_pylist(), strict=True):
            named[index][name] = form.lower()
    return named


def _ordered(names: dict[str, str], language: Language, type_first: bool) -> str:
    phrasing = language.phrasings[1 if type_first else 0]
    present = [(name, template.format(names[name])) for name, template in phrasing if name in names]
    last = [text for name, text in present if name != "type" and text.startswith(language.after_the_type)]
    return language.joint.join([text for _, text in present if text not in last] + last)


def _framed(frames: tuple[str, ...], text: str, bits: int) -> str:
    """`text` in one of `frames`; half of the time in the first."""
    return frames[0 if bits % 2 else (bits >> 1) % len(frames)].format(text)
