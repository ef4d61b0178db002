"""The queries table: intents in the words of customers."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from raylevance.data.schema import QUERIES
from raylevance.data.spelling import misspell
from raylevance.demo.columns import QUERY, identifiers
from raylevance.demo.intents import LONG_TAIL, Intent
from raylevance.demo.lexicon import word_tables
from raylevance.demo.randomness import Draws, Ints
from raylevance.demo.relevance import ANY
from raylevance.demo.shop import Shop, Storefront
from raylevance.demo.vocabulary import LEAVES
from raylevance.demo.vocabulary.schema import ATTRIBUTES, Templates

OTHER_PHRASING_SHARE = 0.25
"""The share of queries with the `other_phrasing` of the language, as in `sofa grey velvet`."""


def queries(shop: Shop, start: int, stop: int) -> pa.Table:
    """Return rows `start` to `stop` of the queries table, the most popular query first."""
    return shop.table(start, stop, _storefront_queries)


def _storefront_queries(storefront: Storefront, own: Ints) -> pa.Table:
    columns = {
        "query_id": identifiers(QUERY, storefront.numbers(own)),
        "query": pa.array(query_texts(storefront, storefront.intents.of_queries(own)), pa.string()),
        "locale": pa.repeat(pa.scalar(storefront.locale, pa.string()), len(own)),
    }
    return pa.table(columns, schema=QUERIES)


def query_texts(storefront: Storefront, intent: Intent) -> list[str]:
    """Return the text of each of n queries, in the language of the storefront."""
    language = storefront.language
    templates = language.templates
    frames = Draws(storefront.seed, "query frame").bits(intent.queries).tolist()
    slips = Draws(storefront.seed, "query slip").bits(intent.queries).tolist()
    texts = []
    for index, (names, scope) in enumerate(zip(_attribute_words(storefront, intent), intent.scope, strict=True)):
        if scope >= len(LEAVES):
            texts.append(
                _choose_frame(templates.need_frames, frames[index]).format(need=language.needs[scope - len(LEAVES)])
            )
            continue
        is_other = frames[index] % 997 < 997 * OTHER_PHRASING_SHARE
        text = _phrase(names, templates, templates.other_phrasing if is_other else templates.usual_phrasing)
        if intent.kind[index] == LONG_TAIL:
            text = _choose_frame(templates.long_tail_frames, frames[index] >> 16).format(query=text)
        texts.append(misspell(text, np.random.default_rng(slips[index])) if intent.misspelt[index] else text)
    return texts


def _attribute_words(storefront: Storefront, intent: Intent) -> list[dict[str, str]]:
    """Return, for each query, the words of the attributes that it names."""
    named: list[dict[str, str]] = [{} for _ in intent.queries]
    for name, wanted, lexicon in zip(ATTRIBUTES, intent.wanted, word_tables(storefront.locale).lexicons, strict=True):
        stated = np.flatnonzero(wanted != ANY)
        uniform = Draws(storefront.seed, f"query form {name}").uniform(intent.queries[stated])
        forms = lexicon.forms.take(pa.array(lexicon.any_forms(wanted[stated], uniform)))
        for index, form in zip(stated, forms.to_pylist(), strict=True):
            named[index][name] = form.lower()
    return named


def _phrase(names: dict[str, str], templates: Templates, phrasing: Mapping[str, str]) -> str:
    """Return a query with the words `names`, in the order and with the texts of `phrasing`."""
    parts = {name: text.format(**names) for name, text in phrasing.items() if name in names}
    last = [text for name, text in parts.items() if name != "type" and text.startswith(templates.after_type_prefixes)]
    return templates.word_separator.join([text for text in parts.values() if text not in last] + last)


def _choose_frame(frames: tuple[str, ...], bits: int) -> str:
    """Return one of `frames`: the first one if `bits` is odd, else any of them."""
    return frames[0 if bits % 2 else (bits >> 1) % len(frames)]
