"""How merchants write and how customers ask in Spanish: templates over a product's words."""

TIERS = ("económica", "media", "alta")

TITLES = (
    (0.20, "{type} {brand} {line} - {style}, {material}, color {colour}"),
    (0.16, "{brand} {type} de {material}, {style}, {size}, {colour}"),
    (0.14, "{type} de {material} {brand} ({size}, color {colour}) - {style}"),
    (0.12, "{type} de {material} color {colour} | {brand} {line}"),
    (0.12, "{brand} {type} {size} color {colour}"),
    (0.10, "{brand} {line} {type}"),
    (0.10, "{type} {brand} {line} para {use} - {material}, {style}, {size}, color {colour}"),
    (0.06, "{type} {synonym} {material} {style} {size} para {use} idea regalo {brand} {line}"),
)

DESCRIPTIONS = (
    (0.30, "Te presentamos {brand} {line}: {type} en {colour}, {material}. Detalles: {style}. Para {use}."),
    (0.25, "Pensado para {use}. {type} {brand}: {material}, {style}, acabado {colour}. Medidas: {size}."),
    (0.25, "¿Buscas algo para {use}? {brand} {line} es de gama {tier}, en {material} y color {colour}."),
    (0.20, "{type} {brand} {line}. Con estas características: {style}, {size}. Gama {tier} de la sección «{leaf}»."),
)

BULLETS = (
    (0.35, "Material: {material}\nColor: {colour}\nTamaño: {size}\nIdeal para {use}"),
    (0.35, "Características: {style}\nHecho de {material}\nMedidas: {size}\nDevolución en 30 días"),
    (0.30, "Marca: {brand}\nDetalles: {style}\nPerfecto para {use}\n1 año de garantía"),
)

NEED_FRAMES = ("{}", "ideas para {}", "{} barato", "todo para {}")

LONG_TAIL_FRAMES = ("{}", "mejor {}", "busco {}", "dónde comprar {}", "{} de buena calidad", "{} barato")

PHRASINGS = (
    (
        ("type", "{}"),
        ("brand", "{}"),
        ("material", "de {}"),
        ("style", "{}"),
        ("colour", "color {}"),
        ("size", "{}"),
    ),
    (
        ("brand", "{}"),
        ("type", "{}"),
        ("colour", "color {}"),
        ("style", "{}"),
        ("material", "de {}"),
        ("size", "{}"),
    ),
)
"""A colour follows the word for it, and so agrees with no noun."""
