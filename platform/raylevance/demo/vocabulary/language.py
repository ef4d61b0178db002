"""How the shop speaks in one language: the words of its leaves, and the templates of its merchants and customers."""

from collections.abc import Mapping
from dataclasses import dataclass

from raylevance.demo.vocabulary.leaf import Leaf

Templates = tuple[tuple[float, str], ...]
"""Templates over a product's words, each with its share."""

Phrasing = tuple[tuple[str, str], ...]
"""The attributes that a query may name, in their order, each with the template it is put into."""


@dataclass(frozen=True)
class Language:
    """The same leaves, with the same meanings in the same order, in one language.

    `leaves` and `needs` are in the order of `LEAVES` and `NEEDS`, and name what those name. `phrasings`: the usual one,
    and the one where the type leads or words are run together. `joint` stands between the words of a query;
    a word group that starts with one of `after_the_type` follows the type. `title_case`: titles capitalise each word.
    """

    leaves: tuple[Leaf, ...]
    palettes: Mapping[str, str]
    needs: tuple[str, ...]
    tiers: tuple[str, ...]
    titles: Templates
    descriptions: Templates
    bullets: Templates
    need_frames: tuple[str, ...]
    long_tail_frames: tuple[str, ...]
    phrasings: tuple[Phrasing, Phrasing]
    joint: str = " "
    after_the_type: tuple[str, ...] = ()
    title_case: bool = False
