"""The rule that grades a product for a query, from their attributes.

A query's scope is the leaf that it asks for, or the need that it names. A leaf answers the scope, complements it or is
unrelated. In a leaf that answers, a product is exact if all attributes that the query names agree, a substitute if one
differs, and irrelevant if more differ. The labels are those of ESCI (Reddy et al. 2022, section 3). The rule is our
choice.
"""

from functools import cache

import numpy as np

from raylevance.data.click_model import Labels
from raylevance.demo.lexicon import leaf_number
from raylevance.demo.randomness import Ints
from raylevance.demo.vocabulary import ENGLISH, LEAVES

LABELS = ("E", "S", "C", "I")
EXACT, SUBSTITUTE, COMPLEMENT, IRRELEVANT = range(len(LABELS))
ANY = -1
"""The meaning of an attribute that a query does not name."""


def grade_by_rule(scopes: Ints, wanted: Ints, leaves: Ints, attributes: Ints) -> Labels:
    """Return the labels of products for queries by the rule above, int8 indices into `LABELS`, [queries, products].

    - `scopes`: Scope of each query, a row of `scope_labels`, [queries].
    - `wanted`: Meanings of the six attributes that each query names, `ANY` where it names none, [6, queries].
    - `leaves`: Leaf of each product, [queries, products].
    - `attributes`: Meanings of the six attributes of each product, [6, queries, products].
    """
    base = scope_labels()[scopes[:, None], leaves]
    misses = np.zeros(leaves.shape, np.int8)
    for want, have in zip(wanted, attributes, strict=True):
        misses += (want[:, None] != ANY) & (want[:, None] != have)
    own = np.array([EXACT, SUBSTITUTE, IRRELEVANT], np.int8)[np.minimum(misses, 2)]
    return np.where(base == EXACT, own, base)


@cache
def scope_labels() -> Labels:
    """Return the best label of a product of each leaf in each scope, int8 [scopes, leaves].

    Scopes below `len(LEAVES)` are leaves. The others are the needs in the order of the vocabulary. Leaves in the same
    section as the answers to a need are substitutes.
    """
    rows = [_row([number], []) for number in range(len(LEAVES))]
    for names in ENGLISH.needs.values():
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
