"""The rule that grades a product for a query, from their attributes alone.

A query's scope says what each leaf is to it: its own leaf (or any that answers a vague need), a complement, or nothing.
In its own leaf a product is exact when every attribute the query names agrees, a substitute when one does not, and
irrelevant when more do not. The labels are those of ESCI (Reddy et al. 2022, section 3); the rule is our choice.
"""

from functools import cache

import numpy as np

from raylevance.data.click_model import Labels
from raylevance.demo.lexicon import leaf_number
from raylevance.demo.randomness import Ints
from raylevance.demo.vocabulary import LEAVES, NEEDS

LABELS = ("E", "S", "C", "I")
EXACT, SUBSTITUTE, COMPLEMENT, IRRELEVANT = range(len(LABELS))
ANY = -1
"""In a query's wanted attributes: not named."""


def grade_by_rule(scopes: Ints, wanted: Ints, leaves: Ints, attributes: Ints) -> Labels:
    """Labels, int8 indices into `LABELS`, shape [queries, products].

    `scopes` [queries]; `wanted` [6, queries], meanings or `ANY`; `leaves` [queries, products]; `attributes`
    [6, queries, products].
    """
    base = scope_labels()[scopes[:, None], leaves]
    misses = np.zeros(leaves.shape, np.int8)
    for want, have in zip(wanted, attributes, strict=True):
        misses += (want[:, None] != ANY) & (want[:, None] != have)
    own = np.array([EXACT, SUBSTITUTE, IRRELEVANT], np.int8)[np.minimum(misses, 2)]
    return np.where(base == EXACT, own, base)


@cache
def scope_labels() -> Labels:
    """What a product of each leaf is to each scope at best, int8 [scopes, leaves].

    Scope l below `len(LEAVES)` is leaf l; the ones after it are `NEEDS` in their order, for which other leaves of the
    same second level count as substitutes.
    """
    rows = [_row([number], []) for number in range(len(LEAVES))]
    for names in NEEDS.values():
        answers = [leaf_number(name) for name in names]
        parents = {LEAVES[answer].path[:2] for answer in answers}
        rows.append(_row(answers, [number for number, leaf in enumerate(LEAVES) if leaf.path[:2] in parents]))
    return np.stack(rows)


def _row(answers: list[int], siblings: list[int]) -> Labels:
    row = np.full(len(LEAVES), IRRELEVANT, np.int8)
    row[[leaf_number(name) for answer in answers for name in LEAVES[answer].complements]] = COMPLEMENT
    row[siblings] = SUBSTITUTE
    row[answers] = EXACT
    return row
