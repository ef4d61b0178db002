"""The shop in Spanish: a dictionary of its words, its needs and its templates."""

from raylevance.demo.vocabulary.dictionary import Dictionary
from raylevance.demo.vocabulary.spanish import phrases
from raylevance.demo.vocabulary.spanish.colours import COLOURS
from raylevance.demo.vocabulary.spanish.leaves import LEAVES
from raylevance.demo.vocabulary.spanish.levels import LEVELS
from raylevance.demo.vocabulary.spanish.materials import MATERIALS
from raylevance.demo.vocabulary.spanish.needs import NEEDS
from raylevance.demo.vocabulary.spanish.sizes import SIZES
from raylevance.demo.vocabulary.spanish.styles import STYLES
from raylevance.demo.vocabulary.spanish.uses import USES

DICTIONARY = Dictionary(
    levels=LEVELS,
    leaves=LEAVES,
    colours=COLOURS,
    materials=MATERIALS,
    styles=STYLES,
    sizes=SIZES,
    uses=USES,
)

__all__ = ["DICTIONARY", "NEEDS", "phrases"]
