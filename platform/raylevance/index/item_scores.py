"""The score of an item for a trigger: the cosine of their vectors, and how popular the item is.

    s_ti = cos(h_t, h_i) + tau * b * ( log(1 + n_i) - log(1 + n) )

with n_i the events of item i and n their mean over the items that have any. A loss with the positives of other triggers
as negatives learns how much likelier an item is after a trigger than elsewhere; the second term gives back a part, b,
of how likely it is at all (our choice).

An item without events has n_i = c n. c is measured on the end of the log (`popularity_of_new_items`), because
catalogues differ: in one of new arrivals an item without events is likelier to be chosen next than most others, in one
with many products that nobody buys it is not.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

POPULARITY = 0.75
"""b, unless a table says otherwise."""
DAMPING = 0.25
"""The power that the weights of triggers are raised to where their lists are merged: on the last training day of a real
log, 0 and 0.25 were equal and better than 0.5 and 1 (our choice)."""

AVERAGE_ITEMS = 10
"""How many average items are added to those without events, whose popularity is measured."""


def popularity_terms(events: Ints, temperature: float, share: float, new: float = 1.0) -> Scores:
    """Return the second term of the score of each item, float32 [n], from the number of its `events` [n].

    `share` is b, `temperature` tau and `new` c in the formula above.
    """
    known = events[events > 0]
    mean = known.mean() if len(known) else 0.0
    terms = np.log1p(np.where(events > 0, events, new * mean)) - np.log1p(mean)
    return np.asarray(temperature * share * terms, np.float32)


def popularity_of_new_items(before: Ints, after: Ints) -> float:
    """Return c: how popular an item without events is, as a share of the mean of the items with events.

    - `before` int64 [n]: in how many requests each item was before some time.
    - `after` int64 [n]: in how many requests since then it was chosen.

    Items are grouped by `before`: 0, 1, 2 to 3, 4 to 7 and so on. An item without events is as popular as the items
    that are chosen as often since then, by linear interpolation between the means of the groups; of groups that are
    chosen alike the one of the fewest requests counts. c is 1 where all items were there before, or where none that was
    there is chosen since then, and `AVERAGE_ITEMS` draw it to 1 where few items were not there.

    Source: our choice.
    """
    known = before > 0
    if known.all() or not after[known].any():
        return 1.0
    group = np.floor(np.log2(before[known])).astype(np.int64)
    sizes = np.bincount(group)
    there = sizes > 0
    mean_before, mean_after = (np.bincount(group, part[known])[there] / sizes[there] for part in (before, after))
    # A group is taken to be chosen at least as often as those below it, which a group of few items may miss by chance.
    rates, first = np.unique(np.maximum.accumulate([0, *mean_after]), return_index=True)
    like = np.interp(after[~known].mean(), rates, np.concatenate([[0], mean_before])[first])
    new = int((~known).sum())
    return float((new * like / before[known].mean() + AVERAGE_ITEMS) / (new + AVERAGE_ITEMS))
