"""The score of an item for a trigger: the cosine of their vectors, and how popular the item is.

    s_ti = cos(h_t, h_i) + tau * b * ( log(1 + n_i) - log(1 + n) )

with n_i the events of item i, n their mean over the items that have any, and n_i = n for an item without events.
A loss with the positives of other triggers as negatives learns how much likelier an item is after a trigger than
elsewhere; the second term gives back a part, b, of how likely it is at all (our choice).
"""

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]

POPULARITY = 0.75
"""b, unless a table says otherwise."""
DAMPING = 0.25
"""The power that the weights of triggers are raised to where their lists are merged: on the last training day of a real
log, 0 and 0.25 were equal and better than 0.5 and 1 (our choice)."""


def popularity_terms(events: npt.NDArray[np.int64], temperature: float, share: float) -> Scores:
    """Return the second term of the score of each item, float32 [n], from the number of its `events` [n].

    `share` is b and `temperature` tau in the formula above.
    """
    known = events[events > 0]
    mean = known.mean() if len(known) else 0.0
    terms = np.log1p(np.where(events > 0, events, mean)) - np.log1p(mean)
    return np.asarray(temperature * share * terms, np.float32)
