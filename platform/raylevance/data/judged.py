"""The products, queries and judgements of a tables artifact, and their splits by query."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.groups import ALL, Groups
from raylevance.data.hashing import hash_strings, hash_unit, pair_ids
from raylevance.data.schema import LANGUAGE_MODEL
from raylevance.data.splits import check_leakage, folds_by_query, queries_of, split_by_query
from raylevance.errors import RaylevanceError
from raylevance.progress import status

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLIT_SEED = 1_000_003
"""Of the split that judgements without one get: with its hashes `hold_out` would cut off nothing, or everything."""


@dataclass(frozen=True)
class Judged:
    """Tables in the schemas of `raylevance.data.schema`."""

    products: pa.Table
    queries: pa.Table
    judgements: pa.Table

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a tables folder; judgements that name no split get one by query.

        Of a pair that is judged more than once the first judgement counts, a person's before a language model's.
        Raises `RaylevanceError` without judgements, where only some name a split, and for a query in train and in test.
        """
        names = ("products", "queries", "judgements")
        for name in names:
            if not (folder / name).is_dir():
                raise RaylevanceError(f"{folder}: has no {name}; this recipe needs {', '.join(names)}")
        judged = cls(*(pq.read_table(folder / name) for name in names)).each_pair_once()
        unsplit = judged.judgements["split"].null_count
        if 0 < unsplit < judged.judgements.num_rows:
            raise RaylevanceError(f"{folder}: {unsplit} judgements have no split and others do; give all one, or none")
        if unsplit:
            shares = {TRAIN: 0.6, TEST: 0.4}
            judgements = split_by_query(judged.judgements, judged.queries, shares, SPLIT_SEED)
            judged = replace(judged, judgements=judgements)
        check_leakage(judged.of(TRAIN).queries, judged.of(TEST).queries)
        return judged

    def each_pair_once(self) -> Self:
        """Of a pair that is judged more than once the first judgement, a person's before a language model's."""
        by_model = pc.starts_with(self.judgements["source"], LANGUAGE_MODEL).to_numpy()
        order = np.argsort(by_model, kind="stable")
        pairs = hash_strings(pair_ids(self.judgements))
        kept = np.sort(order[np.unique(pairs[order], return_index=True)[1]])
        if len(kept) < len(pairs):
            status(f"{len(pairs) - len(kept)} judgements of pairs that are judged already are left out")
        return replace(self, judgements=self.judgements.take(pa.array(kept)))

    def by_people(self) -> Self:
        """Without the grades that a language model gave: what a judge's agreement is measured on."""
        written = pc.starts_with(self.judgements["source"], LANGUAGE_MODEL)
        return replace(self, judgements=self.judgements.filter(pc.invert(written)))

    def without_unjudged_queries(self) -> Self:
        judged = pc.is_in(self.queries["query_id"], pc.unique(self.judgements["query_id"]))
        return replace(self, queries=self.queries.filter(judged))

    def of(self, split: str) -> Self:
        """The queries and judgements of `split`; the products stay whole."""
        queries = queries_of(self.judgements, self.queries, split)
        return replace(
            self, queries=queries, judgements=self.judgements.filter(pc.equal(self.judgements["split"], split))
        )

    def hold_out(self, split: str, fraction: float, seed: int) -> tuple[Self, Self]:
        """`split` cut in two by query: what is learned from, and the share `fraction` that picks the best step."""
        whole = self.of(split)
        shares = {TRAIN: 1 - fraction, VALIDATION: fraction}
        cut = replace(whole, judgements=split_by_query(whole.judgements, whole.queries, shares, seed))
        return cut.of(TRAIN), cut.of(VALIDATION)

    def train_and_validation(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """What is learned from, and what picks the best step: the data's own validation split, else `hold_out`'s.

        Raises `RaylevanceError` for a query of the validation split that is in train or in test too.
        """
        if not pc.any(pc.equal(self.judgements["split"], VALIDATION)).as_py():
            return self.hold_out(TRAIN, fraction, seed)
        learned, validation = self.of(TRAIN), self.of(VALIDATION)
        check_leakage(learned.queries, validation.queries, ("training", "validation"))
        check_leakage(validation.queries, self.of(TEST).queries, ("validation", "test"))
        return learned, validation

    def beside(self, learned: "Judged") -> pa.Array:
        """The ids of the judged queries that are not among those of `learned`; queries nobody judged are none."""
        ids = pc.unique(self.judgements["query_id"])
        return ids.filter(pc.invert(pc.is_in(ids, learned.queries["query_id"].combine_chunks())))

    def with_queries(self, other: "Judged", share: float, seed: int) -> Self:
        """Also queries of `other` with their judgements, by hash, until they are `share` of all; products stay."""
        order = np.argsort(hash_unit(other.queries["query_id"], seed), kind="stable")
        queries = other.queries.take(order[: count_within_share(self.queries.num_rows, share)])
        judgements = other.judgements.filter(
            pc.is_in(other.judgements["query_id"], queries["query_id"].combine_chunks())
        )
        return replace(
            self,
            queries=pa.concat_tables([self.queries, queries], promote_options="permissive"),
            judgements=pa.concat_tables([self.judgements, judgements], promote_options="permissive"),
        )

    def locales(self) -> list[str]:
        """The locales of the products, where there are several; none where there is one, for all are searched then."""
        found = pc.unique(self.products["locale"].drop_null()).to_pylist()
        return sorted(found) if len(found) > 1 else []

    def groups(self) -> Groups | None:
        """Queries and products by locale, where there are several: a query finds products of its own.

        A query that names no locale finds all of them, and a product without one is found by such queries.
        """
        locales = pa.array(self.locales(), pa.string())
        if not len(locales):
            return None
        places = (pc.fill_null(pc.index_in(table["locale"], locales), ALL) for table in (self.queries, self.products))
        return Groups(*(place.to_numpy().astype(np.int64) for place in places))

    def folds(self, count: int, seed: int) -> list[Self]:
        """`count` views of all judged queries, each with another share of them as `test` and the rest as `train`."""
        fold = folds_by_query(self.queries, count, seed)
        place = pc.index_in(self.judgements["query_id"], self.queries["query_id"].combine_chunks()).to_numpy()
        column = self.judgements.column_names.index("split")
        splits = [pa.array(np.where(fold[place] == number, TEST, TRAIN)) for number in range(count)]
        return [replace(self, judgements=self.judgements.set_column(column, "split", split)) for split in splits]


def count_within_share(existing: int, share: float) -> int:
    """Return how many queries may be added to `existing` ones so that they are at most `share` of all."""
    return int(share * existing / (1 - share) + 1e-9)
