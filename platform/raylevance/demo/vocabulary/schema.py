"""The contents of the vocabulary files (YAML), and the function that reads one."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from raylevance.config import Settings
from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.errors import RaylevanceError, nearest

ATTRIBUTES = ("type", "brand", "colour", "material", "style", "size")
PLACEHOLDERS = (*ATTRIBUTES, "synonym", "line", "use", "tier", "leaf")
"""The names that a template of a title, a description or a bullet list may use."""

NUMBER = "<n>"
"""A placeholder, in a translation, for a number in the English word."""

_Model = TypeVar("_Model", bound=Settings)


def _split(separator: str) -> BeforeValidator:
    """Return a validator that splits text at `separator` and leaves tuples, which are split already, as they are."""

    def split(text: object) -> object:
        if not isinstance(text, str | tuple):
            raise ValueError(f"expected text, got {text!r}")
        return tuple(part.strip() for part in text.split(separator)) if isinstance(text, str) else text

    return BeforeValidator(split)


Form = Annotated[str, Field(pattern="^[^,/]+$")]
"""A surface form: text without a comma or a slash, which separate meanings and forms in the files."""

Meaning = Annotated[tuple[Form, ...], _split("/")]
"""One meaning, written `sofa/couch`: the first form is the merchants' usual word, the others are synonyms."""

Meanings = Annotated[tuple[Meaning, ...], _split(",")]
"""Several meanings, written `sofa/couch, loveseat`, from common to rare."""

Uses = Annotated[tuple[Form, ...], _split(",")]
"""Phrases that follow "made for", written `movie nights, small apartments`."""


class Leaf(Settings):
    """A leaf category: the words of its products and the leaves that complement it."""

    category: str = Field(pattern="^[^>]+ > [^>]+ > [^>]+$")
    """The category path from the root: department, section and leaf, joined by `CATEGORY_SEPARATOR`."""
    brands: str
    """A group of `EnglishVocabulary.brands`."""
    types: Meanings
    """The names of the product. No form occurs in two leaves."""
    colours: str
    """A palette of `EnglishVocabulary.palettes`."""
    materials: Meanings
    styles: Meanings
    sizes: Meanings
    uses: Uses
    complements: tuple[str, ...] = ()
    """Names of leaves whose products go with this one without replacing it."""

    @property
    def path(self) -> tuple[str, ...]:
        """The three levels of `category`."""
        return tuple(self.category.split(CATEGORY_SEPARATOR))

    @property
    def name(self) -> str:
        """The last level of `category`, unique among the leaves."""
        return self.path[-1]


class Template(Settings):
    """A text with placeholders, and the share of the products that it is used for."""

    share: float = Field(gt=0, le=1)
    text: str

    @field_validator("text")
    @classmethod
    def _has_known_placeholders(cls, text: str) -> str:
        for name in _placeholders(text):
            _check_known("placeholder", name, PLACEHOLDERS)
        return text


def _placeholders(text: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def _check_known(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in (names := list(known)):
        raise ValueError(f"unknown {kind}: {name!r}; {nearest(name, names)}")


def _check_shares(templates: tuple[Template, ...]) -> tuple[Template, ...]:
    total = sum(template.share for template in templates)
    if not math.isclose(total, 1):
        raise ValueError(f"the shares sum to {total:g} and not to 1")
    return templates


def _check_placeholder(name: str) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Return a validator of texts that have the placeholder `name` and no other."""

    def check(texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if _placeholders(text) != [name]:
                raise ValueError(f"{text!r} needs the placeholder {{{name}}} once and no other")
        return texts

    return check


def _by_attribute(texts: object) -> dict[str, str]:
    """Return a list of texts as a mapping from the attribute that each one has as its placeholder."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected a list of texts")
    names = [name for text in texts for name in _placeholders(text)]
    if len(names) != len(texts) or sorted(names) != sorted(ATTRIBUTES):
        raise ValueError(f"expected one text for each of {', '.join(ATTRIBUTES)}")
    return dict(zip(names, texts, strict=True))


ProductTemplates = Annotated[tuple[Template, ...], AfterValidator(_check_shares)]
Phrasing = Annotated[dict[str, str], BeforeValidator(_by_attribute)]
"""The order of the attributes in a query, each with its template."""


class Templates(Settings):
    """How merchants write about products, and how customers ask for them."""

    titles: ProductTemplates
    descriptions: ProductTemplates
    bullets: ProductTemplates
    title_case: bool
    """Whether each word of a title starts with a capital letter."""
    usual_phrasing: Phrasing
    other_phrasing: Phrasing
    word_separator: str
    """Text between the words of a query."""
    after_type_prefixes: tuple[str, ...]
    """Words that start with one of these follow the product type in a query."""
    need_frames: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_check_placeholder("need"))]
    long_tail_frames: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_check_placeholder("query"))]


class EnglishVocabulary(Settings):
    """The contents of `english.yaml`, which defines the shop."""

    product_lines: tuple[str, ...]
    price_tiers: tuple[str, ...]
    """From cheap to expensive."""
    brands: dict[str, dict[str, str]]
    """The price tier of each brand, by group of brands."""
    palettes: dict[str, Meanings]
    leaves: dict[str, Leaf]
    """The leaves by category path, in the order of their numbers."""
    needs: dict[str, tuple[str, ...]]
    """Vague queries, and the names of the leaves that answer each."""
    templates: Templates

    @field_validator("leaves", mode="before")
    @classmethod
    def _add_categories(cls, leaves: object) -> object:
        if not isinstance(leaves, dict):
            return leaves
        return {key: {**leaf, "category": key} if isinstance(leaf, dict) else leaf for key, leaf in leaves.items()}

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        names = [leaf.name for leaf in self.leaves.values()]
        for group in self.brands.values():
            for tier in group.values():
                _check_known("price tier", tier, self.price_tiers)
        for leaf in self.leaves.values():
            _check_known(f"brand group of {leaf.name}", leaf.brands, self.brands)
            _check_known(f"palette of {leaf.name}", leaf.colours, self.palettes)
            for complement in leaf.complements:
                _check_known(f"complement of {leaf.name}", complement, names)
        for need, answers in self.needs.items():
            for answer in answers:
                _check_known(f"leaf of the need {need!r}", answer, names)
        return self


class DepartmentTranslation(Settings):
    """The name of a department, and the uses of all its products."""

    name: str
    uses: Uses


class LeafTranslation(Settings):
    """The name of a leaf, and its product types by their first English form."""

    name: str
    types: dict[str, Meaning]


class Translation(Settings):
    """The contents of a file that translates `english.yaml`: tables by English word.

    The keys of `colours`, `materials`, `styles`, `sizes` and of a leaf's types are the first form of a meaning, that
    form with `<n>` for each number, or all forms of the meaning.
    """

    departments: dict[str, DepartmentTranslation]
    sections: dict[str, str]
    leaves: dict[str, LeafTranslation]
    colours: dict[str, Meaning]
    materials: dict[str, Meaning]
    styles: dict[str, Meaning]
    sizes: dict[str, Meaning]
    needs: dict[str, str]
    price_tiers: dict[str, str]
    templates: Templates

    @field_validator("colours", "materials", "styles", "sizes")
    @classmethod
    def _keeps_numbers(cls, table: dict[str, Meaning]) -> dict[str, Meaning]:
        for english, forms in table.items():
            if any(form.count(NUMBER) != english.count(NUMBER) for form in forms):
                raise ValueError(f"each form of {english!r} needs {NUMBER} as often as the English has it")
        return table


@dataclass(frozen=True)
class Language:
    """The shop in one language: the same leaves, meanings, needs and tiers in the same order as in English."""

    leaves: tuple[Leaf, ...]
    palettes: Mapping[str, Meanings]
    needs: tuple[str, ...]
    price_tiers: tuple[str, ...]
    templates: Templates


def read_vocabulary(model: type[_Model], file: Path) -> _Model:
    """Read a vocabulary file (YAML).

    Raises `RaylevanceError` for a missing, unknown or invalid entry: one line with the file and the key.
    """
    try:
        # The loader that is written in C takes a tenth of the time; some builds of PyYAML lack it.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return model.model_validate(yaml.load(file.read_text(encoding="utf-8"), loader))
    except yaml.YAMLError as error:
        raise RaylevanceError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise RaylevanceError(f"{file}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    *parents, key = ["", *map(str, fault["loc"])]
    place = ": ".join(parents[1:])
    if fault["type"] == "missing":
        message = f"key {key!r} is missing"
    elif fault["type"] == "extra_forbidden":
        message = f"unknown key {key!r}"
    else:
        place = ": ".join([*parents[1:], key])
        message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
