"""Names of the four actions in the logs of shops."""

import pyarrow as pa
import pyarrow.compute as pc

ACTION_NAMES = {
    "exposure": "exposure",
    "impression": "exposure",
    "view": "exposure",
    "click": "click",
    "click_through": "click",
    "cart": "cart",
    "add_to_cart": "cart",
    "purchase": "purchase",
    "purchase_complete": "purchase",
}
"""Our name of each action: UBI's names, and ours. Upper case, spaces and hyphens make no difference."""

ACTION_WEIGHTS = {"exposure": 0, "click": 1, "cart": 3, "purchase": 5}
"""How much one action says about a query, unless a setting says otherwise (our choice)."""


def our_action(names: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the action that each name stands for, string [n]; null for a name that is not in `ACTION_NAMES`."""
    spelled = pc.replace_substring_regex(pc.utf8_lower(pc.utf8_trim_whitespace(names)), r"[\s-]+", "_")
    places = pc.index_in(spelled, pa.array(list(ACTION_NAMES)))
    return pc.take(pa.array(list(ACTION_NAMES.values())), places)
