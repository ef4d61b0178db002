"""Colours in Spanish, by their first English form, each with its synonyms."""

COLOURS = {
    "grey": "gris", "white": "blanco", "beige": "beige/arena", "navy": "azul marino/azul oscuro",
    "cream": "crema/marfil", "teal": "turquesa/verde azulado", "sage": "verde salvia", "pink": "rosa/rosado",
    "burgundy": "burdeos/granate", "black": "negro", "yellow": "amarillo/mostaza", "green": "verde",
    "natural": "natural", "walnut brown": "nogal/marrón oscuro", "espresso": "café oscuro/wengué",
    "whitewashed": "blanco decapado", "silver": "plateado/cromado", "red": "rojo/carmesí", "copper": "cobre",
    "blue": "azul", "olive": "verde oliva/verde militar", "tan": "camel/tostado", "purple": "morado/violeta",
    "orange": "naranja", "neon yellow": "amarillo neón/amarillo flúor", "brown": "marrón/chocolate",
    "cognac": "coñac/caramelo", "space grey": "gris espacial/grafito", "rose gold": "oro rosa",
    "multicolour": "multicolor/arcoíris", "terracotta": "terracota/teja",
}  # fmt: skip
