"""The shop in Japanese: a dictionary of its words, its needs and its templates."""

from raylevance.data.demo.vocabulary.dictionary import Dictionary
from raylevance.data.demo.vocabulary.japanese import phrases
from raylevance.data.demo.vocabulary.japanese.colours import COLOURS
from raylevance.data.demo.vocabulary.japanese.leaves import LEAVES
from raylevance.data.demo.vocabulary.japanese.levels import LEVELS
from raylevance.data.demo.vocabulary.japanese.materials import MATERIALS
from raylevance.data.demo.vocabulary.japanese.needs import NEEDS
from raylevance.data.demo.vocabulary.japanese.sizes import SIZES
from raylevance.data.demo.vocabulary.japanese.styles import STYLES
from raylevance.data.demo.vocabulary.japanese.uses import USES

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
