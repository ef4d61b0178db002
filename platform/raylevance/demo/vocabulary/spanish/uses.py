"""Phrases after "para", by the first level of the category path, the same for all leaves under it."""

USES = {
    "Home": "noches de cine, pisos pequeños, habitaciones de invitados, domingos de descanso, noches frías",
    "Kitchen": "desayunos de domingo, cocinas pequeñas, cenas con amigos, amantes del café, comidas de diario",
    "Fashion": "días de oficina, invitadas de boda, salidas informales, noches de invierno, regalos de aniversario",
    "Electronics": "teletrabajo, viajes largos, juegos de madrugada, estudiantes, videollamadas",
    "Office": "teletrabajo, reuniones largas, estudiantes de arte, despachos en casa",
    "Music": "primeras clases, noches de concierto, regalos de navidad, bandas escolares",
    "Sports": "entrenar en casa, acampadas en familia, rutas de montaña, ir en bici al trabajo",
    "Travel": "escapadas de fin de semana, vuelos largos, viajes de negocios, días de colegio",
    "Garden": "balcones con plantas, terrazas soleadas, noches de verano, césped grande",
    "Tools": "montar muebles, proyectos de fin de semana, obras y reformas, paredes de hormigón",
    "Pets": "cachorros recién llegados, perros mayores, gatos de interior, pisos pequeños",
    "Baby": "recién nacidos, padres primerizos, viajes en avión, paseos por la ciudad",
    "Toys": "tardes de lluvia, regalos de cumpleaños, juegos en familia, mentes curiosas",
}
