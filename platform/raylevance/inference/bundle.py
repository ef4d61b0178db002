"""A bundle: the artifacts that a server answers from, published and replaced as one.

An artifact `bundle/NAME` holds `bundle.json`, the references of an index, of the encoder and the tables that it was
made from, and where given of a classifier, a scorer and a table of items, each with its version. A server that follows
`bundle/NAME` takes the newest version, so to publish is to update, and to publish an earlier one again is to roll back.
"""

from typing import Self

from pydantic import ValidationError, model_validator

from raylevance.artifacts import Artifact, Store
from raylevance.config import Settings
from raylevance.errors import RaylevanceError, UsageError
from raylevance.inference import search

FILE = "bundle.json"


class BundleVersions(Settings):
    """The artifacts of a bundle, each as `kind/name@version`; null for a part that it does not have."""

    index: str
    encoder: str
    tables: str
    classifier: str | None = None
    scorer: str | None = None
    items: str | None = None

    @model_validator(mode="after")
    def _of_their_kinds(self) -> Self:
        for part, kind in KINDS.items():
            reference = getattr(self, part)
            if reference is not None and not reference.startswith(f"{kind}/"):
                raise ValueError(f"{part} {reference!r}: expected {kind}/NAME or {kind}/NAME@VERSION")
        return self

    def references(self) -> list[str]:
        """Return the artifacts that the bundle has."""
        return [reference for reference in self.model_dump().values() if reference is not None]


KINDS = {
    "index": "index",
    "encoder": "encoder",
    "tables": "tables",
    "classifier": "classifier",
    "scorer": "scorer",
    "items": "table",
}
"""The kind of artifact of each part."""


def pin(
    store: Store, index: str, classifier: str | None = None, scorer: str | None = None, items: str | None = None
) -> BundleVersions:
    """Return the versions behind references with or without a version, without loading anything; newest by default.

    The files of all but the tables are checked against their hashes. Raises `UsageError` for a reference of another
    kind, `RaylevanceError` when an artifact is missing or damaged.
    """
    found = search.pin(store, index)
    parts = {"classifier": classifier, "scorer": scorer, "items": items}
    try:
        given = BundleVersions(**found.model_dump(), **parts)
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    pinned = {part: store.get(reference).ref for part in parts if (reference := getattr(given, part)) is not None}
    for reference in pinned.values():
        store.path(reference)
    return given.model_copy(update=pinned)


def publish(store: Store, name: str, versions: BundleVersions) -> Artifact:
    """Publish `versions` as the newest version of `bundle/<name>`. Servers that follow the bundle take it.

    Publishing the same versions again makes their bundle the newest again. Raises `RaylevanceError` as `read` does, and
    where another version is newer by its clock.
    """
    _check(store, versions, f"bundle/{name}")
    with store.publish(f"bundle/{name}", parents=versions.references()) as draft:
        (draft.path / FILE).write_text(versions.model_dump_json(indent=1), encoding="utf-8")
    newest = store.versions(f"bundle/{name}")[0][0]
    if newest.version != draft.ref.partition("@")[2]:
        raise RaylevanceError(
            f"{draft.ref}: published, but {newest.ref} was made at {newest.created:%Y-%m-%d %H:%M:%S} UTC, which is "
            "later than this machine's clock; set the clock, and publish again"
        )
    return newest


def rollback(store: Store, name: str, version: str | None = None) -> tuple[Artifact, Artifact]:
    """Publish an earlier bundle again; return the one that was newest, and the one that now is.

    Without `version` it is the last one before the newest that can still be served. A second rollback therefore
    undoes the first; `version` goes back further. Raises `RaylevanceError` when there is no such bundle.
    """
    found, _ = store.versions(f"bundle/{name}")
    if not found:
        store.get(f"bundle/{name}")  # raises, and names the nearest
    chosen = found[1:] if version is None else [artifact for artifact in found if artifact.version == version]
    if version is not None and not chosen:
        raise UsageError(f"bundle/{name}: has no version {version}; it has {', '.join(made.version for made in found)}")
    faults = []
    for artifact in chosen:
        try:
            return found[0], publish(store, name, read(store, artifact.ref))
        except RaylevanceError as error:
            faults.append(str(error))
    if not faults:
        raise RaylevanceError(f"{found[0].ref}: is the only version of bundle/{name}; there is none to go back to")
    raise RaylevanceError(f"bundle/{name}: no earlier version can be served; {faults[0]}")


def read(store: Store, reference: str) -> BundleVersions:
    """Read `bundle/NAME[@VERSION]` of the store; the newest version by default.

    Raises `UsageError` for another kind of reference; `RaylevanceError` when the bundle or an artifact of it is missing
    or damaged, and when its index was built with another encoder or from other tables than it names.
    """
    if not reference.startswith("bundle/"):
        raise UsageError(f"bundle {reference!r}: expected bundle/NAME or bundle/NAME@VERSION")
    file = store.path(reference) / FILE
    try:
        versions = BundleVersions.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RaylevanceError(f"{reference}: {FILE} is not a bundle: {str(error).splitlines()[0]}") from None
    _check(store, versions, reference)
    return versions


def _check(store: Store, versions: BundleVersions, name: str) -> None:
    """Raise unless all artifacts are there and undamaged, and the index was made by the encoder and the tables."""
    found = pin(store, versions.index, versions.classifier, versions.scorer, versions.items)
    for part in ("encoder", "tables"):
        if getattr(found, part) != getattr(versions, part):
            raise RaylevanceError(
                f"{name}: {versions.index} was made with {getattr(found, part)}, not with {getattr(versions, part)}"
            )
