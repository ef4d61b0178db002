"""The examples of docs/library.md run in their order, against a store that the small recipe has filled."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

LIBRARY = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## (\d+)\. .*?```python\n(.*?)```", LIBRARY, re.MULTILINE | re.DOTALL)


@pytest.mark.ray
def test_the_examples_of_the_library_run(
    small_store: Path,
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [int(number) for number, _ in EXAMPLES] == list(range(1, 11))
    shutil.copytree(small_store, tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, code in EXAMPLES:
        exec(compile(code, f"docs/library.md, example {number}", "exec"), names)
    assert names["result"].steps == 2 and (tmp_path / "trained" / "encoder.json").is_file()
    assert names["scores"].grad is not None and names["loss"].item() > 0
    assert capsys.readouterr().out.splitlines()[-1] == "True", "walks over shards are those over the whole graph"
