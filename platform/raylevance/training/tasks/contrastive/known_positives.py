"""Which items are known to be positives of a query, in whichever training instance."""

import numpy as np
import numpy.typing as npt

from raylevance.training.tasks.contrastive.tokenised_instances import TokenisedInstances
from raylevance.training.token_file import Ints


class KnownPositives:
    """The positive items (`TokenisedInstances.is_positive`) of each query of a token file, over all its instances.

    A log gives an instance for each click, and a query with many judgements is cut into several instances: the item of
    one of them is no negative for the query of another (our choice). Queries and items are the same if their tokens
    are. It holds 8 bytes in memory for each instance, each item, each distinct query, and each pair of a query and a
    positive of it.
    """

    def __init__(self, instances: TokenisedInstances) -> None:
        """Read the texts of all `instances` once."""
        distinct, self._query = np.unique(instances.query_hashes(), return_inverse=True)
        _, self._item = np.unique(instances.item_hashes(), return_inverse=True)
        positive = np.flatnonzero(instances.is_positive())
        instance = np.repeat(np.arange(len(instances)), np.diff(instances.first_item))[positive]
        pairs = np.unique(np.stack([self._query[instance], self._item[positive]]), axis=1)
        self._items_of_queries: Ints = pairs[1].copy()
        self._first: Ints = np.searchsorted(pairs[0], np.arange(len(distinct) + 1))

    def among(self, instances: Ints, items: Ints) -> npt.NDArray[np.bool_]:
        """Return whether item j is a positive of the query of instance i, bool [B, M].

        `instances` [B] are numbers of instances, and `items` [M] are positions among the items of all instances.
        """
        queries, query_of_row = np.unique(self._query[instances], return_inverse=True)
        texts, text_of_column = np.unique(self._item[items], return_inverse=True)
        is_positive = np.zeros((len(queries), len(texts)), bool)
        for row, query in enumerate(queries):
            known = self._items_of_queries[self._first[query] : self._first[query + 1]]
            place = np.searchsorted(texts, known)
            place = place[texts[np.minimum(place, len(texts) - 1)] == known]
            is_positive[row, place] = True
        return is_positive[query_of_row][:, text_of_column]
