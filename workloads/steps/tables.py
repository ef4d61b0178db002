"""Publish `tables/<data set>`: imported from files and checked, or generated as the demo shop."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import ray.data
from pydantic import field_validator, model_validator

from raylevance.artifacts import Artifact, Draft, Store, digest
from raylevance.config import AbsolutePath, Settings
from raylevance.data.importing import OnBadRow, import_tables
from raylevance.data.input_files import files_below, is_readable
from raylevance.data.readers.alibaba import read_alibaba
from raylevance.data.readers.esci import read_esci
from raylevance.data.readers.tables import OTHER_SPELLINGS, read_tables
from raylevance.data.readers.ubi import read_ubi
from raylevance.data.readers.uci import REPEATED_PRODUCT, read_uci
from raylevance.data.readers.wands import read_wands
from raylevance.data.schema import REPEATED_QUERY, TABLES
from raylevance.demo import DemoSettings, generate
from raylevance.errors import RaylevanceError, UsageError, nearest
from raylevance.progress import status
from workloads.run import Run

DATA_BESIDE_THE_CHECKOUT = Path(__file__).parents[3] / "shared" / "data"
READERS: dict[str, Callable[..., dict[str, ray.data.Dataset]]] = {
    "alibaba": read_alibaba,
    "esci": read_esci,
    "tables": read_tables,
    "ubi": read_ubi,
    "uci": read_uci,
    "wands": read_wands,
}

READING = 5
"""Goes up when files are read in another way, so that an import from before is not taken for the same."""
READING_OF = {"alibaba": 5, "ubi": 6}
"""Goes up when only the reader of this source changes."""

TABLE_FOLDERS = {*TABLES, *OTHER_SPELLINGS["judgements"], "ubi_queries", "ubi_events"}
"""The subfolders that the readers look for, in lower case."""

SOURCES = ["auto", "esci", "alibaba", "uci", "tables", "demo"]
PUBLIC_FOLDERS = {"esci": "esci", "alibaba": "alibaba_ecomm", "uci": "uci_online_retail"}
"""The folder of each source in RAYLEVANCE_DATA."""


class DataSettings(Settings):
    """The tables that a recipe reads."""

    source: str = "auto"
    """esci, alibaba, uci or tables (files to import), demo (generated), or tables/NAME[@VERSION] of the store. auto
    takes ESCI from RAYLEVANCE_DATA or ../shared/data, and the demo shop where there is none. With
    alibaba and uci and no folder, tables that are in the store are used."""
    folder: AbsolutePath | None = None
    """The folder of the files; null for RAYLEVANCE_DATA."""
    locale: str = "us"
    """The locale that is read from ESCI's files."""
    on_bad_row: OnBadRow = "stop"
    """Stop at the first bad row, or quarantine bad rows and continue."""
    demo: DemoSettings = DemoSettings()

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        if source not in SOURCES and not source.startswith("tables/"):
            raise ValueError(f"{source!r} is neither a source nor tables/NAME of the store; {nearest(source, SOURCES)}")
        return source

    @model_validator(mode="after")
    def _folder_is_read(self) -> Self:
        if self.folder is not None and (self.source == "demo" or self.source.startswith("tables/")):
            raise ValueError(f"folder={self.folder}: source={self.source} reads no files; set source to their format")
        return self


def load_tables(settings: DataSettings, run: Run) -> Artifact:
    """Import, generate or find the tables of a recipe, and say which data was taken."""
    reference = _imported_before(settings, run.store)
    if reference:
        found = run.store.get(reference)
        status(f"data: {found.ref} of the store")
        run.made.append(found)
        return found
    source, folder = locate(settings)
    if source == "demo":
        reason = "as asked" if settings.source == "demo" else "no public data at hand"
        status(f"data: the generated demo shop, {settings.demo.products} products ({reason})")
        return _generated(settings.demo, run)
    assert folder is not None
    status(f"data: {source} from {folder}")
    return _imported(source, folder, run, on_bad_row=settings.on_bad_row, locale=settings.locale)


def _imported_before(settings: DataSettings, store: Store) -> str | None:
    """Return the reference of tables that the store has already, None where files are imported."""
    if settings.source.startswith("tables/"):
        return settings.source
    if settings.source in ("alibaba", "uci") and settings.folder is None:
        name = f"tables/{settings.source}"
        return name if name in store.names() else None
    return None


def locate(settings: DataSettings) -> tuple[str, Path | None]:
    """Return the source that `auto` means here, and its folder. Raises `RaylevanceError` for a missing folder."""
    if settings.source == "demo":
        return "demo", None
    if settings.source == "tables" and settings.folder is None:
        raise UsageError("data.source=tables: set data.folder to where the tables are")
    folder = settings.folder or _public_folder(settings.source)
    if folder is None or not folder.is_dir():
        if settings.source == "auto" and settings.folder is None and "RAYLEVANCE_DATA" not in os.environ:
            return "demo", None
        raise RaylevanceError(f"{folder or 'data.folder'}: no such folder of data; set data.folder or RAYLEVANCE_DATA")
    return ("esci" if settings.source == "auto" else settings.source), folder.absolute()


def import_source(source: str, folder: Path, store: str, *, on_bad_row: str, locale: str | None = None) -> Artifact:
    """Import `folder` with the reader `source` and publish its tables; unchanged files are not read again.

    Raises `UsageError` for an unknown source, and for a locale of another source than ESCI.
    """
    if source not in READERS:
        raise UsageError(f"unknown source {source!r}; {nearest(source, list(READERS))}")
    if on_bad_row not in ("stop", "quarantine"):
        raise UsageError(f"--on-bad-row {on_bad_row}: expected stop or quarantine")
    if locale is not None and source != "esci":
        raise UsageError(f"--locale {locale}: only esci has locales to choose from; leave it out")
    if not folder.is_dir():
        raise RaylevanceError(f"{folder}: no such folder")
    with Run(Store(store)) as run:
        # Ray's workers may have another working directory.
        return _imported(
            source, folder.absolute(), run, on_bad_row=on_bad_row, locale="us" if locale is None else locale
        )


def generate_demo(store: str, settings: DemoSettings) -> Artifact:
    """Generate the demo shop and publish it as `tables/demo`."""
    with Run(Store(store)) as run:
        return _generated(settings, run)


def _imported(source: str, folder: Path, run: Run, *, on_bad_row: Any, locale: str) -> Artifact:
    options = {"locale": locale} if source == "esci" else {}

    own = Path(str(run.store))
    inside = own in (folder, *folder.parents)
    found = [file for file in _files_of(folder) if inside or own not in file.parents]
    files = digest(filter(is_readable, found), folder)

    def build(draft: Draft) -> None:
        summary = import_tables(READERS[source](folder, **options), draft.path, on_bad_row)
        read = {Path(file) for file in summary.files}
        not_read = [str(file.relative_to(folder)) for file in found if file not in read]
        draft.metrics |= summary.model_dump(exclude={"files"})
        draft.metrics["files"] = [str(file.relative_to(folder)) for file in sorted(read)]
        draft.metrics["files_not_read"] = not_read
        dropped = sum((Counter(reasons) for reasons in summary.dropped.values()), Counter())
        repeated = dropped.pop(REPEATED_QUERY, 0)
        named_again = dropped.pop(REPEATED_PRODUCT, 0)
        outcomes = [
            f"{sum(sum(reasons.values()) for reasons in summary.quarantined.values())} rows quarantined",
            f"{dropped.total()} rows dropped",
            f"{repeated} rows repeat a query (each query is kept once)",
            f"{named_again} rows name a product again (each product is kept once)",
            f"{summary.repeated_events} events repeated",
            f"{len(not_read)} files not read",
        ]
        if said := [outcome for outcome in outcomes if not outcome.startswith("0 ")]:
            status(f"tables/{source}: {', '.join(said)}; raylevance store show tables/{source} counts them by reason")

    settings = {
        "source": source,
        "files": files,
        "on_bad_row": on_bad_row,
        "reading": [READING, READING_OF.get(source, 0)],
        **options,
    }
    return run.step(f"tables/{source}", build, settings=settings)


def _files_of(folder: Path) -> list[Path]:
    """Return the files below `folder`, sorted. Links to folders are followed in the folders of tables alone.

    Folders of tables are read as `files_below` says; others that can't be read are left out.
    """
    found: set[Path] = set()
    try:
        tables = [entry for entry in folder.iterdir() if entry.name.lower() in TABLE_FOLDERS and entry.is_dir()]
        for path, _, names in os.walk(folder):
            found |= {file for name in names if (file := Path(path) / name).is_file()}
    except OSError as error:
        raise RaylevanceError(f"{error.filename}: can't be read: {error.strerror}") from None
    return sorted(found.union(*map(files_below, tables)))


def _generated(settings: DemoSettings, run: Run) -> Artifact:
    def build(draft: Draft) -> None:
        draft.metrics["rows"] = generate(settings, draft.path)

    return run.step("tables/demo", build, settings=settings, seed=settings.seed)


def _public_folder(source: str) -> Path | None:
    """Return the folder of a source's files: RAYLEVANCE_DATA itself if ESCI's are in it, else its subfolder."""
    root = os.environ.get("RAYLEVANCE_DATA")
    if source in ("auto", "esci") and root and any(Path(root).glob("*examples*.parquet")):
        return Path(root)
    folder = (Path(root) if root else DATA_BESIDE_THE_CHECKOUT) / PUBLIC_FOLDERS.get(source, "esci")
    return folder if root or folder.is_dir() else None
