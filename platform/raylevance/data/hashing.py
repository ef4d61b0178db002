"""Stable 64-bit hashes of strings, equal on every machine and in every run."""

import hashlib

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio: it spreads the bits of what it multiplies (Knuth, volume 3, section 6.4)."""


def hash_strings(strings: pa.Array | pa.ChunkedArray, seed: int = 0, purpose: str = "") -> Hashes:
    """Return the SipHash of each string, uint64 [n]. Null has the hash of the empty string.

    Use a different `purpose` for each random decision about the same strings, so that decisions with one `seed` are
    independent of each other.
    """
    encoded = pc.fill_null(strings, "").dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    key = hashlib.blake2b(f"{purpose} {seed}".encode(), digest_size=8).hexdigest() if purpose else f"{seed:016d}"[-16:]
    hashes = pd.util.hash_array(distinct, hash_key=key, categorize=False)
    return np.asarray(hashes[encoded.indices.to_numpy()], np.uint64)


def hash_unit(strings: pa.Array | pa.ChunkedArray, seed: int = 0, purpose: str = "") -> npt.NDArray[np.float64]:
    """Return a number uniform in [0, 1) for each string, float64 [n]. `seed` and `purpose` are as in `hash_strings`."""
    return np.asarray((hash_strings(strings, seed, purpose) >> np.uint64(11)) * 2.0**-53, np.float64)


def pair_ids(rows: pa.Table) -> pa.ChunkedArray:
    """Return one string for each row that identifies its query and its product, from query_id and product_id."""
    return pc.binary_join_element_wise(rows["query_id"], rows["product_id"], "\0")
