"""The shop in Japanese: a dictionary of its words, its needs and its templates."""

from raylevance.demo.vocabulary.dictionary import Dictionary
from raylevance.demo.vocabulary.japanese import phrases
from raylevance.demo.vocabulary.japanese.colours import COLOURS
from raylevance.demo.vocabulary.japanese.leaves import LEAVES
from raylevance.demo.vocabulary.japanese.levels import LEVELS
from raylevance.demo.vocabulary.japanese.materials import MATERIALS
from raylevance.demo.vocabulary.japanese.needs import NEEDS
from raylevance.demo.vocabulary.japanese.sizes import SIZES
from raylevance.demo.vocabulary.japanese.styles import STYLES
from raylevance.demo.vocabulary.japanese.uses import USES

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
