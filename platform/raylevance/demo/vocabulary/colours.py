"""Colour palettes: the colours a leaf's products come in, from common to rare, each with its synonyms."""

PALETTES = {
    "fashion": (
        "black, white, navy/navy blue/dark blue, grey/gray/charcoal, beige/sand, red/crimson, olive/army green, "
        "tan/camel, pink/blush, burgundy/wine red/maroon, blue, green, purple/violet, yellow/mustard"
    ),
    "leather": (
        "black, brown/chocolate, tan/camel, cognac/caramel, navy/navy blue/dark blue, burgundy/wine red/maroon, "
        "grey/gray/charcoal"
    ),
    "textile": (
        "grey/gray/charcoal, white, beige/sand, navy/navy blue/dark blue, cream/ivory/off-white, teal/turquoise, "
        "sage/sage green, pink/blush, burgundy/wine red/maroon, black, yellow/mustard, green"
    ),
    "furniture": (
        "natural, white, black, walnut brown/dark brown, grey/gray/charcoal, espresso/coffee brown, whitewashed"
    ),
    "kitchen": (
        "black, silver/chrome, white, red/crimson, cream/ivory/off-white, teal/turquoise, copper, blue, "
        "grey/gray/charcoal"
    ),
    "tech": (
        "black, white, silver/chrome, space grey/graphite, blue, rose gold, red/crimson, purple/violet, green, "
        "pink/blush"
    ),
    "sport": (
        "black, blue, grey/gray/charcoal, red/crimson, green, purple/violet, pink/blush, orange, teal/turquoise, "
        "neon yellow/fluorescent yellow, white"
    ),
    "garden": "green, black, terracotta/rust, grey/gray/charcoal, beige/sand, brown/chocolate, white, blue",
    "tools": "yellow/mustard, red/crimson, black, blue, orange, grey/gray/charcoal, green",
    "bright": (
        "multicolour/multicolored/rainbow, blue, pink/blush, red/crimson, yellow/mustard, green, purple/violet, "
        "orange, white, grey/gray/charcoal, teal/turquoise"
    ),
}
