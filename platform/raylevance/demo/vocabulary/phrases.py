"""How merchants write and how customers ask: templates over a product's words."""

LINES = (
    "Aria", "Nova", "Vista", "Lyra", "Atlas", "Juno", "Ember", "Coast", "Haven", "Orbit", "Solace", "Ridge", "Willow",
    "Pulse", "Harbor", "Fable", "Quartz", "Meadow", "Summit", "Drift", "Indigo", "Cedar", "Bolt", "Opal", "Nomad",
    "Terra", "Zephyr", "Crest", "Luna", "Onyx", "Maple", "Flint", "Cove", "Sierra", "Tempo", "Gale", "Iris", "Dune",
    "Echo", "Rowan",
)  # fmt: skip
"""Names of product lines; a number follows."""

TITLES = (
    (0.20, "{brand} {line} {type} - {style}, {material}, {colour}"),
    (0.16, "{brand} {type}, {style}, {material}, {size}, {colour}"),
    (0.14, "{material} {type} {style} by {brand} ({size}, {colour})"),
    (0.12, "{colour} {material} {type} | {brand} {line}"),
    (0.12, "{brand} {type} {size} {colour}"),
    (0.10, "{brand} {line} {type}"),
    (0.10, "{brand} {colour} {type} {style} - {size} {material} {synonym} for {use}"),
    (0.06, "{type} {synonym} {material} {style} {size} for {use} Gift Idea {brand} {line}"),
)
"""Title templates by share, from tidy to terse to stuffed with keywords."""

DESCRIPTIONS = (
    (0.30, "Meet the {brand} {line}: {type} in {colour}, {material}. Features: {style}. Made for {use}."),
    (0.25, "Designed for {use}. {brand} {type}: {material}, {style}, {colour} finish. Size: {size}."),
    (0.25, "Looking for something for {use}? The {line} range by {brand} is {tier} {material} quality in {colour}."),
    (0.20, "{brand} {line} {type}. {style}, {size}. Part of our {tier} {leaf} collection."),
)

BULLETS = (
    (0.35, "Material: {material}\nColor: {colour}\nSize: {size}\nMade for {use}"),
    (0.35, "{style}\nMade of {material}\n{size}\n30-day returns"),
    (0.30, "Brand: {brand}\nStyle: {style}\nGreat for {use}\n1 year warranty"),
)

LONG_TAIL_FRAMES = ("{}", "best {}", "looking for {}", "where to buy {}", "good quality {}", "cheap {}")
"""What people wrap around a long query."""

AFTER_THE_TYPE = ("with ", "for ", "no ", "up to ", "set of ", "pack of ")
"""A word group that starts so follows the type in a query: `skillet with lid`."""

PHRASINGS = (
    tuple((name, "{}") for name in ("brand", "colour", "style", "material", "type", "size")),
    tuple((name, "{}") for name in ("type", "brand", "colour", "material", "style", "size")),
)
"""The usual order of a query's words, and the one with the type first."""
