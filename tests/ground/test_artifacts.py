"""The store publishes complete versions and checks what it reads, also if processes are killed in between."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from raylevance.artifacts import Store, fingerprint, parse_reference
from raylevance.errors import RaylevanceError, UsageError

WRITER = """
import sys
from raylevance.artifacts import Store
store = Store(sys.argv[1])
print("ready", flush=True)
for i in range(10_000):
    with store.publish("table/items", fingerprint=str(i)) as draft:
        for part in range(4):
            (draft.path / f"part-{part}").write_bytes(bytes([i % 256]) * 50_000)
"""


def publish(store: Store, name: str, content: str, **options: object) -> str:
    with store.publish(name, **options) as draft:  # type: ignore[arg-type]
        (draft.path / "folder").mkdir()
        (draft.path / "folder" / "a.txt").write_text(content)
    return draft.ref


def test_a_published_version_keeps_its_files_and_lineage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parent = publish(store, "tables/esci", "rows")
    ref = publish(store, "encoder/stage1", "weights", parents=[parent], settings={"batch": 64}, seed=3)

    artifact = store.get("encoder/stage1")

    assert artifact.ref == ref
    assert (artifact.parents, artifact.settings, artifact.seed) == ((parent,), {"batch": 64}, 3)
    assert (store.path(ref) / "folder" / "a.txt").read_text() == "weights"
    manifest = json.loads((tmp_path / "encoder" / "stage1" / artifact.version / "manifest.json").read_text())
    assert manifest["files"] == [{"path": "folder/a.txt", "sha256": artifact.files[0].sha256, "bytes": 7}]


def test_the_newest_version_answers_and_an_old_one_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = publish(store, "report/x", "1"), publish(store, "report/x", "2")
    assert store.get("report/x").ref == second
    assert store.get(first).ref == first
    assert publish(store, "report/x", "1") == first, "the same content is the same version"
    assert store.get("report/x").ref == first, "and is the newest once more"
    assert len(store.artifacts()) == 2


def test_a_step_finds_what_its_fingerprint_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = fingerprint("tables/esci@1", {"seed": 0})
    assert store.find("encoder/x", key) is None
    ref = publish(store, "encoder/x", "w", fingerprint=key)
    found = store.find("encoder/x", key)
    assert found is not None and found.ref == ref
    assert fingerprint("tables/esci@1", {"seed": 1}) != key


@pytest.mark.parametrize("is_repeated", [False, True])
def test_a_published_version_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_repeated: bool) -> None:
    """The files, and the folders that name them up to the root, are flushed where they were written last."""
    store, flushed = Store(tmp_path), set()
    if is_repeated:
        publish(store, "encoder/x", "weights")
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.add(os.fstat(descriptor).st_ino))
    publish(store, "encoder/x", "weights")
    [version] = (tmp_path / "encoder" / "x").iterdir()
    written = [*version.rglob("*"), version, *version.parents[:3]]
    assert [str(path) for path in written if path.stat().st_ino not in flushed] == []
    assert version.parents[2] == tmp_path


def test_a_failed_draft_leaves_no_trace(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.publish("encoder/x") as draft:
        (draft.path / "a").write_text("half")
        raise ZeroDivisionError
    assert store.names() == []
    assert list((tmp_path / ".drafts").iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "remove the folder"])
def test_a_damaged_file_is_named_and_publishing_again_heals_it(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    ref = publish(store, "encoder/x", "weights")
    file = store.path(ref) / "folder" / "a.txt"
    match damage:
        case "flip":
            file.write_text("weightz")
        case "cut":
            file.write_text("wei")
        case "remove":
            file.unlink()
        case "remove the folder":
            shutil.rmtree(file.parent)
    with pytest.raises(RaylevanceError, match=r"encoder/x@\w+: .*folder/a\.txt is (damaged|missing)"):
        store.path(ref)
    publish(store, "encoder/x", "weights")
    assert (store.path(ref) / "folder" / "a.txt").read_text() == "weights"


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        (
            "encoder/stage2",
            r"no such artifact in .*; did you mean 'encoder/stage1'\?; make one with `raylevance run mine",
        ),
        ("judge/relevance", r"judge/relevance: no such .*; make one with `raylevance run judge`$"),
        ("index/own", r"make one with `raylevance index build`$"),
        ("pairs/other", r"list what there is with `raylevance store list`$"),
        ("encoder/stage1@beef", r"encoder/stage1@beef: no such version"),
        ("stage1", r"'stage1' is not a reference: expected kind/name"),
        ("../etc/passwd", "is not a reference"),
    ],
)
def test_an_unknown_reference_is_one_line(tmp_path: Path, reference: str, line: str) -> None:
    store = Store(tmp_path)
    publish(store, "encoder/stage1", "w")
    with pytest.raises(RaylevanceError, match=line) as caught:
        store.get(reference)
    assert "\n" not in str(caught.value)


def test_a_manifest_can_not_point_outside_its_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = publish(store, "encoder/x", "w")
    manifest = store.path(ref) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("folder/a.txt", "../../../secret"))
    with pytest.raises(RaylevanceError, match="outside its folder"):
        store.path(ref)


def test_an_unwritable_root_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RaylevanceError, match="can't be written"):
        publish(Store(tmp_path / "file"), "encoder/x", "w")


def test_a_full_disk_is_one_line_and_leaves_no_trace(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RaylevanceError, match="the disk is full"), store.publish("encoder/x") as draft:
        (draft.path / "a").write_text("half")
        Path("/dev/full").write_text("x")
    assert store.names() == []
    assert list((tmp_path / ".drafts").iterdir()) == []


def test_readers_see_whole_versions_while_writers_are_killed(tmp_path: Path) -> None:
    """Writers get kill -9 at random moments: every version that is listed has all its files, undamaged."""
    moments = random.Random(0)
    published = 0
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            deadline = time.monotonic() + moments.uniform(0.02, 0.25)
            while time.monotonic() < deadline:
                for artifact in Store(tmp_path).artifacts():
                    assert len(artifact.files) == 4
            writer.send_signal(signal.SIGKILL)
        versions = Store(tmp_path).artifacts()
        published = max(published, len(versions))
        for artifact in versions:
            Store(tmp_path).path(artifact.ref)
    assert published > 0, "the writers never got as far as publishing"
    publish(Store(tmp_path), "encoder/x", "next")
    assert list((tmp_path / ".drafts").iterdir()) == [], "the next writer clears what the killed ones left"


def test_concurrent_writers_of_the_same_and_of_other_content(tmp_path: Path) -> None:
    contents = ["a", "b", "c", "a", "b", "c", "a", "b"]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(lambda content: publish(Store(tmp_path), "encoder/x", content), contents))
    assert len(set(refs)) == 3 == len(Store(tmp_path).artifacts())
    for ref, content in zip(refs, contents, strict=True):
        assert (Store(tmp_path).path(ref) / "folder" / "a.txt").read_text() == content


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on a file system without rename, with its own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store(tmp_path / "bucket")
    store._fs = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    store._root, store._local = "prefix", False
    (tmp_path / "bucket").mkdir()
    return store


def test_an_object_store_goes_through_the_same_calls(bucket: Store, tmp_path: Path) -> None:
    """On a file system without rename, files are written first and the manifest last; readers copy and check."""
    ref = publish(bucket, "encoder/x", "weights")

    folder = bucket.path(ref)
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "folder" / "a.txt").read_text() == "weights"
    (tmp_path / "bucket" / "prefix" / "encoder" / "x" / ref.partition("@")[2] / "manifest.json").unlink()
    with pytest.raises(RaylevanceError, match="no such artifact"):
        bucket.path(ref)


def test_a_damaged_copy_in_an_object_store_does_not_stay(bucket: Store, tmp_path: Path) -> None:
    ref = publish(bucket, "encoder/x", "weights")
    file = tmp_path / "bucket" / "prefix" / "encoder" / "x" / ref.partition("@")[2] / "folder" / "a.txt"
    file.write_text("weigh")
    with pytest.raises(RaylevanceError, match="damaged"):
        bucket.path(ref)
    file.unlink()
    with pytest.raises(RaylevanceError, match=r"a\.txt can't be read"):
        bucket.path(ref)
    file.write_text("weights")
    assert (bucket.path(ref) / "folder" / "a.txt").read_text() == "weights"
    assert len(list((tmp_path / "cache" / "raylevance" / "encoder" / "x").iterdir())) == 1


def test_a_draft_of_another_host_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the other host begins with the name of this host."""
    monkeypatch.setattr("socket.gethostname", lambda: "node")
    names = ["node-1-999999999-abcdefgh", "node-x-y", "node-999999999-abcdefgh", ".node-999999999-abcdefgh.draft"]
    for name in names:
        (tmp_path / ".drafts" / name).mkdir(parents=True)
    lock = f"{names[0]}.lock"  # free here, as where a mount keeps locks to one node
    (tmp_path / ".drafts" / lock).touch()
    publish(Store(tmp_path), "encoder/x", "weights")
    assert sorted(path.name for path in (tmp_path / ".drafts").iterdir()) == [names[0], lock, names[1]]


HOLDER = """
import sys
from raylevance.artifacts import Store
with Store(sys.argv[1]).publish("encoder/x") as draft:
    print(draft.path, flush=True)
    sys.stdin.readline()
    (draft.path / "a").write_text("whole")
"""


def test_a_draft_that_is_written_stays_whatever_its_process_id(tmp_path: Path) -> None:
    """In two containers with one host name, the process ids of one are not known in the other."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        folder = Path(writer.stdout.readline().strip())
        _, pid, _ = folder.name.rsplit("-", 2)
        elsewhere = folder.with_name(folder.name.replace(f"-{pid}-", "-999999999-"))
        folder.rename(elsewhere)
        folder.with_name(f"{folder.name}.lock").rename(elsewhere.with_name(f"{elsewhere.name}.lock"))
        publish(Store(tmp_path), "table/items", "rows")
        assert elsewhere.exists()
        writer.kill()
    publish(Store(tmp_path), "table/items", "more rows")
    assert list((tmp_path / ".drafts").iterdir()) == [], "its process is gone"


def test_a_damaged_copy_in_the_cache_is_copied_again(bucket: Store) -> None:
    ref = publish(bucket, "encoder/x", "weights")
    for damage in ("flip", "cut", "no manifest"):
        folder = bucket.path(ref)
        file = folder / "folder" / "a.txt"
        match damage:
            case "flip":
                file.write_text("weightz")
            case "cut":
                file.write_text("wei")
            case "no manifest":
                (folder / "manifest.json").unlink()
                file.unlink()
        assert (bucket.path(ref) / "folder" / "a.txt").read_text() == "weights", damage
    assert len(list(folder.parent.iterdir())) == 1, "nothing else stays"


def test_a_copy_in_the_cache_is_on_the_disk_before_it_has_its_name(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = publish(bucket, "encoder/x", "weights")
    flushed = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.add(os.fstat(descriptor).st_ino))
    folder = bucket.path(ref)
    assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} <= flushed


def test_a_damaged_manifest_hides_no_other_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    old, new = publish(store, "index/shop", "1"), publish(store, "index/shop", "2", fingerprint="f")
    other = publish(store, "encoder/x", "w")
    (tmp_path / "index" / "shop" / old.partition("@")[2] / "manifest.json").write_text('{"name": "ind')
    for _ in range(2):
        assert store.get("index/shop").ref == new
    assert sum("not a manifest" in line for line in caplog.messages) == 1
    found = store.find("index/shop", "f")
    assert found is not None and found.ref == new
    assert {artifact.ref for artifact in store.artifacts()} == {new, other}
    with pytest.raises(RaylevanceError, match="not a manifest"):
        store.get(old)
    with pytest.raises(RaylevanceError, match=r"index/shp: no such artifact .* did you mean 'index/shop'"):
        store.get("index/shp")


def test_an_artifact_without_a_readable_version_says_why(tmp_path: Path) -> None:
    ref = publish(Store(tmp_path), "index/shop", "1")
    (tmp_path / "index" / "shop" / ref.partition("@")[2] / "manifest.json").write_text("")
    with pytest.raises(RaylevanceError, match="not a manifest"):
        Store(tmp_path).get("index/shop")
    assert Store(tmp_path).names() == ["index/shop"]


def test_a_manifest_in_the_wrong_folder_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = publish(store, "encoder/x", "weights")
    shutil.copytree(tmp_path / "encoder" / "x", tmp_path / "encoder" / "y")
    with pytest.raises(RaylevanceError, match=f"is the manifest of {ref}; remove the folder"):
        store.path("encoder/y")


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file")
    with pytest.raises(RaylevanceError, match="not a store that can be read"):
        store.names()
    with pytest.raises(RaylevanceError, match="can't be written"):
        store.work_folder("x")


def test_a_store_uri_nobody_knows_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="gopher"):
        Store("gopher://hole")


def test_references_split() -> None:
    assert parse_reference("index/stage1") == ("index/stage1", None)
    assert parse_reference("index/stage1@0af3") == ("index/stage1", "0af3")
