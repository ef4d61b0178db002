"""Settings come from defaults, then YAML, then --set; each error is one line with the name and its origin."""

from pathlib import Path

import pytest
from pydantic import Field

from raylevance.config import Settings, load_settings, setting_names
from raylevance.errors import UsageError


class Train(Settings):
    batch: int = Field(64, gt=0)
    loss: str = "supcon"


class Recipe(Settings):
    seed: int = 0
    train: Train = Train()


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("seed: 1\ntrain: {batch: 32}\n")
    settings = load_settings(Recipe, file, ["train.batch=16", "train.loss=triplet"])
    assert settings == Recipe(seed=1, train=Train(batch=16, loss="triplet"))
    assert load_settings(Recipe) == Recipe()


def test_one_setting_of_a_group_leaves_the_recipes_others() -> None:
    class Other(Settings):
        warmup: Train = Train(batch=8, loss="infonce")
        deeper: Recipe = Recipe(train=Train(loss="triplet"))

    settings = load_settings(Other, None, ["warmup.batch=4", "deeper.train.batch=2"])
    assert settings == Other(warmup=Train(batch=4, loss="infonce"), deeper=Recipe(train=Train(batch=2, loss="triplet")))


def test_merge_keys_are_no_repeated_names(tmp_path: Path) -> None:
    """The loader changes a mapping with a merge key in place where another one merges it."""

    class Merged(Settings):
        first: dict[str, int]
        second: dict[str, dict[str, int]]
        third: dict[str, int]
        fourth: dict[str, int]

    (tmp_path / "a.yaml").write_text(
        "first: &a {x: 1}\nsecond: {inner: &b {<<: *a, x: 2}}\nthird: {<<: *b}\nfourth: {<<: *a, <<: *b}\n"
    )
    loaded = load_settings(Merged, tmp_path / "a.yaml")
    assert (loaded.second, loaded.third) == ({"inner": {"x": 2}}, {"x": 2}) and set(loaded.fourth) == {"x"}


def test_a_later_group_takes_back_an_earlier_override() -> None:
    with pytest.raises(UsageError, match=r"'train\.loss': input should be a valid string, got 1000"):
        load_settings(Recipe, None, ["train.loss=x", "train={loss: 1000}"])


@pytest.mark.parametrize("text", ["1000", "2024-02-30", "007", "1.50", "no", "2024-01-31", "1_000", "encoder/a@1"])
def test_an_override_of_a_text_is_that_text(text: str) -> None:
    class Named(Settings):
        item: str | None = None
        folder: Path | None = None
        train: Train = Train()

    given = load_settings(Named, None, [f"item={text}", f"folder={text}", f"train.loss={text}", "train.batch=7"])
    assert given == Named(item=text, folder=Path(text), train=Train(loss=text, batch=7))
    assert load_settings(Named, None, ["item=null"]).item is None
    with pytest.raises(UsageError, match=r"'train\.batch': input should be greater than 0, got 0"):
        load_settings(Named, None, [f"item={text}", "train.batch=0"])
    with pytest.raises(UsageError, match=r"'train\.loss': input should be a valid string, got None"):
        load_settings(Named, None, ["train.loss=null"])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.bacth=3", "--set train.bacth=3: unknown setting 'train.bacth'; did you mean 'train.batch'?"),
        ("train.seed=1", "unknown setting 'train.seed'; did you mean 'seed'?"),
        ("train.batch=many", "--set train.batch=many: setting 'train.batch': input should be a valid integer"),
        ("train.batch=0", "setting 'train.batch': input should be greater than 0, got 0"),
        ("train", "--set train: expected key=value"),
        ("seed.x=1", "unknown setting|seed"),
    ],
)
def test_a_bad_override_is_one_line(override: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(Recipe, None, [override])
    assert any(part in str(caught.value) for part in line.split("|"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("trian: {batch: 3}", "unknown setting 'trian'; did you mean 'train'?"),
        ("train: [1, 2]", "setting 'train': input should be a valid dictionary"),
        ("a: b: c", "not valid YAML"),
        (
            "seed: 1\ntrain: {batch: 3, loss: x, batch: 4}",
            "not valid YAML: 'batch' is there twice",
        ),
        ("seed: 1\nseed: 1", "'seed' is there twice"),
        ("- a", "expected a mapping"),
        ("seed: {{ seed }}", "not valid YAML: while constructing a mapping"),
        ("? [a, b]\n: 1", "not valid YAML: while constructing a mapping"),
        ("seed: 2024-02-30", "not valid YAML"),
        ("train: &t {batch: 3}\nother: [{seed: 1, seed: 2}]\n", "'seed' is there twice"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings(Recipe, file)
    assert str(caught.value).startswith(str(file)) and line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: no such settings file"):
        load_settings(Recipe, tmp_path / "none.yaml")


def test_settings_are_frozen_and_listed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 3  # type: ignore[misc]
    assert setting_names(Recipe) == ["seed", "train", "train.batch", "train.loss"]
