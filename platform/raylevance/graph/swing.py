"""Swing: items are similar when many pairs of users who have little else in common chose both.

    s(i, j) = sum_{u < v in U_i and U_j} w_u w_v / (alpha + |I_u and I_v|),    w_u = (alpha1 + |I_u|)^-beta

Source: Yang et al. 2020 (arXiv 2010.05525); the weights of users and all defaults but `top` follow Apache Flink ML,
which also leaves out users with fewer than 10 or more than 1,000 items; here every user counts.
"""

from typing import Any

import numpy as np
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr
from raylevance.graph.metapaths import write_top


class SwingSettings(Settings):
    """The settings of Swing."""

    alpha: float = Field(0.0, ge=0)
    """Smooths the share of a pair of users: the larger, the less it matters what else they have in common."""
    user_alpha: float = Field(15.0, ge=0)
    """alpha1 in the weight of a user."""
    user_beta: float = Field(0.3, ge=0)
    """beta in the weight of a user: the larger, the less users with many items count."""
    most_users: PositiveInt = 1000
    """The most users of an item whose pairs are added up: the first by number, which bounds the cost of a popular
    item."""
    top: PositiveInt = 200
    """Number of similar items that an item keeps."""


def swing(users: Csr, settings: SwingSettings) -> Csr:
    """Return the items similar to each item by Swing, from `users` [users, items], whose weights are not read."""
    items = users.transposed()
    degrees = users.degrees.astype(np.float64)
    weights = (settings.user_alpha + degrees) ** -settings.user_beta
    counts = np.zeros(items.rows, np.int64)
    indices = np.empty(items.rows * settings.top, np.int32)
    scores = np.empty(items.rows * settings.top, np.float32)
    used = _swing(
        users.indptr,
        users.indices,
        items.indptr,
        items.indices,
        weights,
        settings.alpha,
        settings.most_users,
        settings.top,
        counts,
        indices,
        scores,
    )
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return Csr(indptr, indices[:used].copy(), scores[:used].copy(), items.rows)


@compiled
def _swing(
    user_starts: Any,
    user_items: Any,
    item_starts: Any,
    item_users: Any,
    weights: Any,
    alpha: Any,
    most_users: Any,
    top: Any,
    counts: Any,
    indices: Any,
    scores: Any,
) -> Any:
    size = len(counts)
    score, touched = np.zeros(size), np.empty(size, np.int32)
    values = np.empty(size)
    used = 0
    for item in range(size):
        begin = item_starts[item]
        end = min(item_starts[item + 1], begin + most_users)
        found = 0
        for first in range(begin, end):
            u = item_users[first]
            a, a_end = user_starts[u], user_starts[u + 1]
            for second in range(first + 1, end):
                v = item_users[second]
                b, b_end = user_starts[v], user_starts[v + 1]
                shared = 0
                x, y = a, b
                while x < a_end and y < b_end:
                    if user_items[x] == user_items[y]:
                        shared += 1
                        x += 1
                        y += 1
                    elif user_items[x] < user_items[y]:
                        x += 1
                    else:
                        y += 1
                if shared < 2:
                    continue
                share = weights[u] * weights[v] / (alpha + shared)
                x, y = a, b
                while x < a_end and y < b_end:
                    if user_items[x] == user_items[y]:
                        other = user_items[x]
                        if other != item:
                            if score[other] == 0.0:
                                touched[found] = other
                                found += 1
                            score[other] += share
                        x += 1
                        y += 1
                    elif user_items[x] < user_items[y]:
                        x += 1
                    else:
                        y += 1
        for place in range(found):
            values[place] = score[touched[place]]
            score[touched[place]] = 0.0
        counts[item] = write_top(touched[:found], values[:found], top, indices[used:], scores[used:])
        used += counts[item]
    return used
