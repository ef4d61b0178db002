"""A file that import reads is read whole too, row by row in its order."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.data.whole_table import read_table, texts_of
from raylevance.errors import RaylevanceError
from tests.conftest import Ended

LONG = "usb charger " * 300_000


def test_texts_of_every_format(tmp_path: Path) -> None:
    texts = ["mug", '12" pan', "", LONG, "7"]
    mixed = json.dumps({"id": 1, "text": 7})
    lines = [json.dumps({"id": number, "text": text}) for number, text in enumerate(texts[:4])] + [mixed]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "a.json").write_text(f"[{','.join(lines)}]", encoding="utf-8")
    rows = [f'{number}\t"{text}"' if text == LONG else f"{number}\t{text}" for number, text in enumerate(texts)]
    (tmp_path / "a.TSV").write_text("\n".join(["id\ttext", *rows]), encoding="utf-8")
    pq.write_table(pa.table({"text": pa.array(texts).dictionary_encode()}), tmp_path / "a.parquet")
    for file in tmp_path.iterdir():
        assert texts_of(file, "text") == texts, file


def test_types_of_json_and_csv(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": 1.5, "c": "x", "d": True, "e": [1], "f": 2**70}, {"a": 2.5, "b": None, "c": 7, "d": False}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table = read_table(tmp_path / "a.jsonl")
    assert table.drop_columns(["e", "f"]).to_pylist() == [
        {"a": 1.0, "b": 1.5, "c": "x", "d": True},
        {"a": 2.5, "b": None, "c": "7", "d": False},
    ]
    assert table["e"].to_pylist() == [[1], None] and table["f"].to_pylist() == [str(2**70), None]
    (tmp_path / "a.csv").write_text("grade,label,id\n2,1.0,007\n,0.0,008\n", encoding="utf-8")
    assert read_table(tmp_path / "a.csv").to_pylist() == [
        {"grade": 2, "label": 1.0, "id": "007"},
        {"grade": None, "label": 0.0, "id": "008"},
    ]


def test_lists_of_numbers_and_texts_are_lists_of_texts(tmp_path: Path) -> None:
    rows = [{"labels": [7, "a"]}, {"labels": None}, {"labels": []}, {"labels": ["8"]}, {}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_table(tmp_path / "a.jsonl")["labels"].to_pylist() == [["7", "a"], None, [], ["8"], None]
    (tmp_path / "b.jsonl").write_text('{"labels": [7]}\n\n{"labels": ["a", ["b"]]}', encoding="utf-8")
    with pytest.raises(RaylevanceError, match=r"b\.jsonl: row 3: labels is a list, not text"):
        read_table(tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text\n" + b"a\n" * 3 + b"caf\xe9\n", "row 4: row is not UTF-8 text"),
        ("a.csv", b"text,text\na,b\n", "has 2 columns 'text'"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": 1}\n{"text": {}}\n', "row 4: text is an object, not text"),
        (
            "a.jsonl",
            b'{"text": ["a"]}\n\n{"text": "b"}\n{"text": "c"}\n',
            "row 3: text is not a list, unlike that of row 1",
        ),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', "row 2: row is not a JSON object"),
        ("a.json", b'[{"text": "a"}, {"text', "row 2: not valid JSON"),
        ("a.csv.gz", gzip.compress(b"text\n" + b"a\n" * 1000, mtime=0)[:-9], "incomplete or unreadable"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
    ],
)
def test_a_damaged_file_is_named_with_its_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RaylevanceError) as caught:
        texts_of(tmp_path / name, "text")
    assert str(caught.value).startswith(str(tmp_path / name)) and message in str(caught.value)


def test_encode_reads_what_import_reads(raylevance: Callable[..., Ended], tiny_backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(f'id\ttext\n1\t"red\n2\t{LONG}\n3\tshoe\n', encoding="utf-8")
    rows = [{"text": '"red'}, {"text": LONG}, {"text": "shoe"}, {"text": 7}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = {}
    for name in ("a.tsv", "a.jsonl"):
        command = ("encode", "--encoder", tiny_backbone, "--column", "text", "--input", tmp_path / name)
        ended = raylevance(*command, "--output", tmp_path / f"{name}.npy", "--json", "--store", tmp_path)
        assert ended.code == 0, ended.err
        found[name] = np.load(tmp_path / f"{name}.npy")
    assert found["a.tsv"].shape[0] == 3 and found["a.jsonl"].shape[0] == 4
    np.testing.assert_allclose(found["a.tsv"], found["a.jsonl"][:3], atol=1e-6)
