"""The shop in Spanish: a dictionary of its words, its needs and its templates."""

from raylevance.data.demo.vocabulary.dictionary import Dictionary
from raylevance.data.demo.vocabulary.spanish import phrases
from raylevance.data.demo.vocabulary.spanish.colours import COLOURS
from raylevance.data.demo.vocabulary.spanish.leaves import LEAVES
from raylevance.data.demo.vocabulary.spanish.levels import LEVELS
from raylevance.data.demo.vocabulary.spanish.materials import MATERIALS
from raylevance.data.demo.vocabulary.spanish.needs import NEEDS
from raylevance.data.demo.vocabulary.spanish.sizes import SIZES
from raylevance.data.demo.vocabulary.spanish.styles import STYLES
from raylevance.data.demo.vocabulary.spanish.uses import USES

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
