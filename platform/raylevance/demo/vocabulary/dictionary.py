"""A dictionary from the shop's English into another language, and leaves translated with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.demo.vocabulary.leaf import Leaf, Term, terms

NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Dictionary:
    """Tables by English word; a translation is `a/b`, the merchants' usual word and its synonyms.

    `leaves`: the name of a leaf to its name and its types; `uses`: by the first level of the category path. The others
    are looked up by all forms of a meaning, by its first form, then by that with `#` for each number.
    """

    levels: Mapping[str, str]
    leaves: Mapping[str, tuple[str, str]]
    colours: Mapping[str, str]
    materials: Mapping[str, str]
    styles: Mapping[str, str]
    sizes: Mapping[str, str]
    uses: Mapping[str, str]

    def leaf(self, leaf: Leaf) -> Leaf:
        """`leaf` in this language. Raises `KeyError` for a word that a table lacks."""
        name, types = self.leaves[leaf.name]
        upper = [self.levels[level] for level in leaf.path[:-1]]
        return replace(
            leaf,
            category=CATEGORY_SEPARATOR.join([*upper, name]),
            types=types,
            materials=translate(leaf.materials, self.materials),
            styles=translate(leaf.styles, self.styles),
            sizes=translate(leaf.sizes, self.sizes),
            uses=self.uses[leaf.path[0]],
            complements=tuple(self.leaves[complement][0] for complement in leaf.complements),
        )


def translate(text: str, table: Mapping[str, str]) -> str:
    """Meanings as `terms` reads them, in another language."""
    return ", ".join(_word(term, table) for term in terms(text))


def _word(term: Term, table: Mapping[str, str]) -> str:
    for known in ("/".join(term), term[0]):
        if known in table:
            return table[known]
    numbers = NUMBER.findall(term[0])
    forms = table[NUMBER.sub("#", term[0])].split("/")
    return "/".join(_with_numbers(form, numbers) for form in forms)


def _with_numbers(form: str, numbers: list[str]) -> str:
    rest = iter(numbers)
    return re.sub("#", lambda _: next(rest), form)
