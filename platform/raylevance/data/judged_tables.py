"""The products, queries and judgements of a tables artifact, and how they are split by query."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.groups import ALL, Groups
from raylevance.data.hashing import hash_strings, hash_unit, pair_ids
from raylevance.data.id_rows import rows_of_ids
from raylevance.data.schema import MODEL_PREFIX, SPLITS
from raylevance.data.splits import assign_folds, check_leakage, queries_of_split, split_by_query
from raylevance.data.text import normalised_query
from raylevance.errors import RaylevanceError
from raylevance.progress import status

TRAIN, VALIDATION, TEST = SPLITS
SPLIT_SEED = 1_000_003
"""The seed of the split that judgements without one are given.

It differs from the seeds of recipes: with the same hashes, `split_off_validation` would take either no query or all.
"""
SPLIT_SHARES = {TRAIN: 0.6, TEST: 0.4}
"""The share of the queries in each split, where judgements have none."""


@dataclass(frozen=True)
class JudgedTables:
    """Products, queries and judgements, as tables in the schemas of `raylevance.data.schema`."""

    products: pa.Table
    queries: pa.Table
    judgements: pa.Table
    splits_drawn: bool = False
    """Whether the judgements came without a split, and `read` drew one for each query."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a tables folder to learn from one split and to measure on another. See `read`.

        Raises `RaylevanceError` if train or test is empty, and as `read` does.
        """
        judged = cls.read(folder)
        for split in (TRAIN, TEST):
            judged.split(split)
        return judged

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a tables folder, in which train or test may be empty. Judgements without a split are split by query.

        A pair that is judged several times keeps one judgement (see `without_repeated_pairs`).

        Raises `RaylevanceError` if

        - a table is missing,
        - only some of the judgements name a split,
        - no judgement has a split, and there are fewer than two queries to divide,
        - a query is both in train and in test.
        """
        names = ("products", "queries", "judgements")
        for name in names:
            if not (folder / name).is_dir():
                raise RaylevanceError(f"{folder}: has no {name}; this recipe needs {', '.join(names)}")
        judged = cls(*(pq.read_table(folder / name) for name in names)).without_repeated_pairs()
        unsplit = judged.judgements["split"].null_count
        if 0 < unsplit < judged.judgements.num_rows:
            raise RaylevanceError(
                f"{folder}: {unsplit} judgements have no split and others do; give every judgement a split, or none"
            )
        if unsplit:
            judged = replace(judged._divided(SPLIT_SHARES, SPLIT_SEED), splits_drawn=True)
        if {TRAIN, TEST} <= set(judged.judgements["split"].unique().to_pylist()):
            check_leakage(judged.split(TRAIN).queries, judged.split(TEST).queries)
        return judged

    def without_repeated_pairs(self) -> Self:
        """Keep one judgement of each query-product pair: the first by a person, or else the first by a model."""
        by_model = pc.starts_with(self.judgements["source"], MODEL_PREFIX).to_numpy()
        order = np.argsort(by_model, kind="stable")
        pairs = hash_strings(pair_ids(self.judgements))
        first_rows = np.sort(order[np.unique(pairs[order], return_index=True)[1]])
        kept = self.judgements.take(pa.array(first_rows))
        if len(first_rows) < len(pairs):
            known = pc.index_in(pa.array(pairs), pa.array(pairs[first_rows]))
            other = pc.not_equal(self.judgements["grade"], kept["grade"].take(known))
            status(
                f"{len(pairs) - len(first_rows)} judgements of pairs that are judged already are left out, "
                f"{pc.sum(other).as_py()} of them with another grade"
            )
        return replace(self, judgements=kept)

    def without_model_grades(self) -> Self:
        """Remove the judgements of judges; those of people stay. A judge's agreement is measured on them."""
        by_model = pc.starts_with(self.judgements["source"], MODEL_PREFIX)
        return replace(self, judgements=self.judgements.filter(pc.invert(by_model)))

    def without_unjudged_queries(self) -> Self:
        """Remove the queries that have no judgement."""
        judged = pc.is_in(self.queries["query_id"], pc.unique(self.judgements["query_id"]))
        return replace(self, queries=self.queries.filter(judged))

    def split(self, split: str) -> Self:
        """Return the queries and judgements of `split`, with all products.

        Raises `RaylevanceError` if the split is empty.
        """
        queries = queries_of_split(self.judgements, self.queries, split)
        return replace(
            self, queries=queries, judgements=self.judgements.filter(pc.equal(self.judgements["split"], split))
        )

    def split_off_validation(self, split: str, fraction: float, seed: int) -> tuple[Self, Self]:
        """Divide `split` by query into training data and validation data.

        `fraction` is the share of queries for validation, which picks the best step of a training.

        Raises `RaylevanceError` if the split has fewer than two queries.
        """
        divided = self.split(split)._divided({TRAIN: 1 - fraction, VALIDATION: fraction}, seed)
        return divided.split(TRAIN), divided.split(VALIDATION)

    def train_and_validation(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """Return the training data and the validation data.

        The data's own validation split is used where there is one, else `split_off_validation` takes the share
        `fraction` of the training queries.

        Raises `RaylevanceError` if a query of the validation split is also in train or in test.
        """
        if not pc.any(pc.equal(self.judgements["split"], VALIDATION)).as_py():
            return self.split_off_validation(TRAIN, fraction, seed)
        train, validation = self.split(TRAIN), self.split(VALIDATION)
        check_leakage(train.queries, validation.queries, ("training", "validation"))
        check_leakage(validation.queries, self.split(TEST).queries, ("validation", "test"))
        return train, validation

    def _divided(self, shares: Mapping[str, float], seed: int) -> Self:
        """Draw the split of each query. With two shares, neither is empty.

        Raises `RaylevanceError` if there are fewer queries of different text than shares.
        """
        divided = replace(self, judgements=split_by_query(self.judgements, self.queries, shares, seed))
        if empty := shares.keys() - set(divided.judgements["split"].unique().to_pylist()):
            raise RaylevanceError(
                f"no query is left for {' and '.join(sorted(empty))}: {' and '.join(shares)} need a judged query of "
                "different text each; judge more queries"
            )
        return divided

    def query_splits(self) -> pa.Array:
        """Return the split of each query, string [m]: that of the judgements of its text.

        A text without judgements is in the split that `read` would draw for it if the splits were drawn, else in train.
        """
        texts = normalised_query(self.queries["query"]).combine_chunks()
        splits = pa.array([TRAIN] * len(texts), pa.string())
        if self.splits_drawn:
            ids = self.queries.select(["query_id"])
            splits = split_by_query(ids, self.queries, SPLIT_SHARES, SPLIT_SEED)["split"].combine_chunks()
        others = set(self.judgements["split"].unique().to_pylist()) - {TRAIN}
        for split in (TRAIN, *sorted(others)):
            judged = self.judgements.filter(pc.equal(self.judgements["split"], split))["query_id"]
            own = pc.is_in(self.queries["query_id"], judged.unique()).combine_chunks()
            splits = pc.if_else(pc.is_in(texts, texts.filter(own)), split, splits)
        return splits

    def query_ids_outside(self, other: "JudgedTables") -> pa.Array:
        """Return the ids of the judged queries that are not among the queries of `other`, string [n]."""
        ids = pc.unique(self.judgements["query_id"])
        return ids.filter(pc.invert(pc.is_in(ids, other.queries["query_id"].combine_chunks())))

    def with_queries_from(self, other: "JudgedTables", share: float, seed: int) -> Self:
        """Add queries of `other` and their judgements until they are `share` of all queries.

        The queries are chosen by hash. The products stay those of this object.
        """
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

    def first_queries(self, count: int, seed: int) -> Self:
        """Keep `count` queries, drawn by hash, and their judgements; all products stay.

        The queries of a smaller `count` are among those of a larger one. With no more than `count` queries all stay.
        """
        order = np.argsort(hash_unit(self.queries["query_id"], seed, "first queries"), kind="stable")
        queries = self.queries.take(pa.array(np.sort(order[:count])))
        kept = pc.is_in(self.judgements["query_id"], queries["query_id"].combine_chunks())
        return replace(self, queries=queries, judgements=self.judgements.filter(kept))

    def locales(self) -> list[str]:
        """Return the sorted locales of the products, or an empty list if there is only one."""
        locales = pc.unique(self.products["locale"].drop_null()).to_pylist()
        return sorted(locales) if len(locales) > 1 else []

    def report_unknown_locales(self) -> None:
        """Say in a status line how many queries have a locale that no product has, where products have several."""
        locales = pa.array(self.locales(), pa.string())
        named = self.queries["locale"].drop_null()
        unknown = named.filter(pc.invert(pc.is_in(named, locales)))
        if len(locales) and len(unknown):
            names = ", ".join(sorted(unknown.unique().to_pylist()))
            status(f"{len(unknown)} queries have a locale that no product has ({names}); they search all products")

    def locale_groups(self) -> Groups | None:
        """Return the groups of queries and products by locale, or None if there is only one locale.

        A query finds the products of its own locale. A query without a locale, or with one that no product has, finds
        all products, and a product without a locale is found by such queries only.
        """
        locales = pa.array(self.locales(), pa.string())
        if not len(locales):
            return None
        groups = (pc.fill_null(pc.index_in(table["locale"], locales), ALL) for table in (self.queries, self.products))
        return Groups(*(group.to_numpy().astype(np.int64) for group in groups))

    def cross_validation_folds(self, count: int, seed: int) -> list[Self]:
        """Return `count` copies, each with a different share of the queries as `test` and the rest as `train`."""
        fold_of_query = assign_folds(self.queries, count, seed)
        absent = "query {} is judged, but it is not among the queries"
        query_rows = rows_of_ids(self.judgements["query_id"], self.queries["query_id"], absent)
        column = self.judgements.column_names.index("split")
        splits = [pa.array(np.where(fold_of_query[query_rows] == number, TEST, TRAIN)) for number in range(count)]
        return [replace(self, judgements=self.judgements.set_column(column, "split", split)) for split in splits]


def count_within_share(existing: int, share: float) -> int:
    """Return how many queries may be added to `existing` ones so that they are at most `share` of all."""
    return int(share * existing / (1 - share) + 1e-9)
