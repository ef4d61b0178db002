"""The vocabulary of the demo shop: consistent words in English, complete translations, and errors in a broken file."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raylevance.demo.catalogue import BRANDS_PER_LEAF, PERIODS
from raylevance.demo.lexicon import BRAND, word_tables
from raylevance.demo.vocabulary import ENGLISH, FOLDER, LEAVES, Locale, language
from raylevance.demo.vocabulary.schema import EnglishVocabulary, Leaf, read_vocabulary
from raylevance.demo.vocabulary.translation import translate
from raylevance.errors import RaylevanceError

NAMES = [leaf.name for leaf in LEAVES]


def test_the_taxonomy_has_three_levels_and_at_least_sixty_leaves() -> None:
    assert len(set(NAMES)) == len(LEAVES) >= 60
    assert all(len(leaf.path) == 3 for leaf in LEAVES)
    assert len({leaf.path[0] for leaf in LEAVES}) >= 8


def test_no_leaf_complements_itself() -> None:
    assert [leaf.name for leaf in LEAVES if leaf.name in leaf.complements] == []


def test_types_belong_to_one_leaf_each() -> None:
    forms = Counter(form for leaf in LEAVES for meaning in leaf.types for form in meaning)
    assert [form for form, count in forms.items() if count > 1] == []


@pytest.mark.parametrize("leaf", LEAVES, ids=NAMES)
def test_a_word_has_one_meaning_in_a_leaf(leaf: Leaf) -> None:
    words = (leaf.types, ENGLISH.palettes[leaf.colours], leaf.materials, leaf.styles, leaf.sizes)
    forms = Counter(form for meanings in words for meaning in meanings for form in meaning)
    assert [form for form, count in forms.items() if count > 1] == []


def test_values_fit_into_their_period() -> None:
    for values in word_tables().values:
        for attribute, meanings in enumerate(values):
            count = min(len(meanings), BRANDS_PER_LEAF) if attribute == BRAND else len(meanings)
            assert 2 <= count <= PERIODS[attribute]


def test_a_brand_is_in_one_group() -> None:
    names = [name for group in ENGLISH.brands.values() for name in group]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("locale", ["es", "jp"])
def test_every_word_is_translated(locale: Locale) -> None:
    """The translation has all meanings, needs and tiers, and no `<n>` is left in it."""
    translated, english = language(locale), language("us")
    assert len(translated.needs) == len(english.needs) and len(translated.price_tiers) == len(english.price_tiers)
    assert {name: len(colours) for name, colours in translated.palettes.items()} == {
        name: len(colours) for name, colours in english.palettes.items()
    }
    for leaf, english_leaf in zip(translated.leaves, english.leaves, strict=True):
        for attribute in ("types", "materials", "styles", "sizes"):
            assert len(getattr(leaf, attribute)) == len(getattr(english_leaf, attribute))
        assert (leaf.brands, leaf.colours) == (english_leaf.brands, english_leaf.colours)
        assert len(leaf.path) == 3 and leaf.uses and "<n>" not in leaf.model_dump_json()


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_no_key_occurs_twice(file: Path) -> None:
    """PyYAML keeps only the last value of a repeated key."""

    def check(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value)
            assert [key for key, count in keys.items() if count > 1] == []
            for _, value in node.value:
                check(value)

    check(yaml.compose(file.read_text(encoding="utf-8"), yaml.CSafeLoader))


Change = Callable[[dict[str, Any]], object]


def broken(name: str, change: Change, folder: Path) -> Path:
    """Write the vocabulary file `name` with `change` applied to its content."""
    content = yaml.load((FOLDER / name).read_text(encoding="utf-8"), yaml.CSafeLoader)
    change(content)
    (folder / name).write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return folder / name


SOFAS = "Home > Living Room > Sofas"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda words: words.pop("brands"), "key 'brands' is missing"),
        (lambda words: words.update(colors={}), "unknown key 'colors'"),
        (lambda words: words["leaves"][SOFAS].pop("sizes"), f"leaves: {SOFAS}: key 'sizes' is missing"),
        (
            lambda words: words["leaves"][SOFAS].update(brands="hom"),
            "unknown brand group of Sofas: 'hom'; did you mean 'home'?",
        ),
        (lambda words: words["leaves"][SOFAS].update(types="sofa//couch"), f"leaves: {SOFAS}: types: 0: 1: "),
        (lambda words: words["leaves"].update({"Sofas": {}}), "leaves: Sofas: category: "),
        (
            lambda words: words["needs"].update({"nap time": ["Pilows"]}),
            "unknown leaf of the need 'nap time': 'Pilows'",
        ),
        (lambda words: words["brands"]["home"].update(Halvorn="mid"), "unknown price tier: 'mid'"),
    ],
)
def test_a_broken_english_file_gives_one_clear_line(tmp_path: Path, change: Change, message: str) -> None:
    file = broken("english.yaml", change, tmp_path)
    with pytest.raises(RaylevanceError) as raised:
        read_vocabulary(EnglishVocabulary, file)
    assert str(raised.value).startswith(f"{file}: {message}") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda words: words["colours"].update(grey=None), "colours: grey: expected text, got None"),
        (lambda words: words["colours"].pop("grey"), "colours: 'grey/gray/charcoal' has no translation"),
        (
            lambda words: words["colours"].update(gry="gris"),
            "colours: 'gry' is not an English word of the shop; did you mean",
        ),
        (lambda words: words["leaves"].pop("Sofas"), "leaves: 'Sofas' has no translation"),
        (lambda words: words["leaves"]["Sofas"]["types"].pop("loveseat"), "leaves: Sofas: types: 'loveseat"),
        (lambda words: words["needs"].pop("better sleep"), "needs: 'better sleep' has no translation"),
        (lambda words: words["price_tiers"].pop("budget"), "price_tiers: 'budget' has no translation"),
        (lambda words: words["sizes"].update({"<n> inch": "pulgadas"}), "sizes: each form of '<n> inch' needs <n>"),
        (lambda words: words.pop("materials"), "key 'materials' is missing"),
        (lambda words: words["templates"].pop("titles"), "templates: key 'titles' is missing"),
        (lambda words: words["templates"]["titles"][0].update(share=0.5), "templates: titles: the shares sum to 1.3"),
        (
            lambda words: words["templates"]["titles"][0].update(text="{colr}"),
            "templates: titles: 0: text: unknown placeholder",
        ),
        (
            lambda words: words["templates"]["usual_phrasing"].pop(),
            "templates: usual_phrasing: expected one text for each",
        ),
        (
            lambda words: words["templates"]["need_frames"].append("todo"),
            "templates: need_frames: 'todo' needs the placeholder",
        ),
    ],
)
def test_a_broken_translation_gives_one_clear_line(tmp_path: Path, change: Change, message: str) -> None:
    file = broken("spanish.yaml", change, tmp_path)
    with pytest.raises(RaylevanceError) as raised:
        translate(ENGLISH, file)
    assert str(raised.value).startswith(f"{file}: {message}") and "\n" not in str(raised.value)


def test_a_file_that_is_not_yaml_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "german.yaml").write_text("leaves: [", encoding="utf-8")
    with pytest.raises(RaylevanceError, match=r"^\S+german.yaml: not valid YAML: [^\n]+$"):
        translate(ENGLISH, tmp_path / "german.yaml")
