"""The leaves in Spanish: their names, and what their things are called, in the order of `Leaf.types`."""

LEAVES = {
    "Sofas": (
        "Sofás",
        "sofá/tresillo, sofá esquinero/sofá rinconera, sofá de dos plazas/sofá biplaza, "
        "sofá cama/sofá convertible en cama",
    ),
    "Coffee Tables": (
        "Mesas de centro",
        "mesa de centro/mesa baja de salón, mesas nido/mesas apilables, mesa de centro elevable/mesa con tapa elevable",
    ),
    "Area Rugs": (
        "Alfombras",
        "alfombra/alfombra de salón, alfombra de pasillo/alfombra pasillera, "
        "alfombra de pelo largo/alfombra peluda, alfombra de exterior/alfombra de terraza",
    ),
    "Curtains": (
        "Cortinas",
        "cortinas/cortinajes, cortinas opacas/cortinas de oscurecimiento, visillos/cortinas translúcidas",
    ),
    "Curtain Rods": (
        "Barras de cortina",
        "barra de cortina/riel de cortina, barra de presión/barra extensible a presión, "
        "barra doble de cortina/riel doble",
    ),
    "Table Lamps": (
        "Lámparas de mesa",
        "lámpara de mesa/lámpara de mesilla, flexo/lámpara de escritorio, farol de mesa/lámpara farol",
    ),
    "Floor Lamps": (
        "Lámparas de pie",
        "lámpara de pie/lámpara de suelo, lámpara de arco/lámpara arqueada, lámpara de luz indirecta/lámpara antorcha",
    ),
    "Bed Frames": (
        "Camas",
        "estructura de cama/armazón de cama, cama con somier de láminas/cama de láminas, "
        "cama con cajones/cama con almacenaje, litera/camas superpuestas",
    ),
    "Mattresses": ("Colchones", "colchón, topper/sobrecolchón, colchón hinchable/cama inflable"),
    "Duvet Covers": (
        "Fundas nórdicas",
        "funda nórdica/funda de edredón, juego de sábanas/sábanas de cama, colcha/cubrecama",
    ),
    "Pillows": (
        "Almohadas",
        "almohada/almohada de cama, almohada corporal/almohada de embarazo, almohada cervical/almohada para el cuello",
    ),
    "Throw Pillows": ("Cojines", "cojín decorativo/cojín de sofá, funda de cojín, cojín de suelo/puf de suelo"),
    "Nightstands": (
        "Mesillas y cómodas",
        "mesilla de noche/mesita auxiliar de dormitorio, cómoda/cajonera, estante flotante/balda de pared",
    ),
    "Towels": (
        "Toallas",
        "toalla de baño/toalla de ducha, toalla de manos/toalla de lavabo, alfombrilla de baño/alfombra de baño, "
        "albornoz/bata de baño",
    ),
    "Shower Curtains": (
        "Cortinas de ducha",
        "cortina de ducha/cortina de baño, forro de cortina de ducha, estantería de ducha/organizador de baño",
    ),
    "Coffee Makers": (
        "Cafeteras",
        "cafetera de goteo/cafetera de filtro, cafetera exprés/máquina de espresso, "
        "cafetera francesa/cafetera de émbolo, cafetera de vertido/cono de filtro",
    ),
    "Coffee Grinders": (
        "Molinillos de café",
        "molinillo de café/molino de café, molinillo de muelas/molinillo cónico, espumador de leche/batidor de leche",
    ),
    "Kettles": (
        "Hervidores",
        "hervidor eléctrico/hervidor de agua, tetera de silbato/tetera de fogón, "
        "hervidor de cuello de cisne/tetera de cuello largo",
    ),
    "Blenders": (
        "Batidoras",
        "batidora de vaso/licuadora, batidora de mano/minipimer, procesador de alimentos/picadora",
    ),
    "Frying Pans": (
        "Sartenes y ollas",
        "sartén/sartén de cocina, cazo/cacerola pequeña, wok/sartén wok, cocotte/olla de hierro, "
        "plancha de cocina/sartén grill",
    ),
    "Kitchen Knives": (
        "Cuchillos de cocina",
        "cuchillo de chef/cuchillo cocinero, juego de cuchillos/taco de cuchillos, "
        "cuchillo de pan/cuchillo de sierra, cuchillo pelador/puntilla",
    ),
    "Cutting Boards": (
        "Tablas de cortar",
        "tabla de cortar/tabla de picar, tajo de carnicero/bloque de corte, tabla de quesos/tabla de servir",
    ),
    "Cooking Utensils": (
        "Utensilios de cocina",
        "espátula/paleta de cocina, juego de utensilios de cocina/set de utensilios, "
        "cucharas medidoras/tazas medidoras, varillas/batidor manual",
    ),
    "Mugs": ("Tazas", "taza de café/tazón, taza térmica/vaso térmico, taza de té con platillo/tacita de té"),
    "Dinnerware": (
        "Vajillas",
        "vajilla/juego de platos, platos llanos/platos de mesa, cuencos/boles de sopa, cubertería/juego de cubiertos",
    ),
    "Dresses": (
        "Vestidos",
        "vestido/vestido de mujer, vestido largo/maxivestido, vestido de cóctel/vestido de fiesta, "
        "vestido de verano/vestido playero, vestido ceñido/vestido ajustado",
    ),
    "Tops": (
        "Blusas y camisetas",
        "blusa/blusa de mujer, camiseta de mujer/camiseta femenina, camiseta de tirantes/top de tirantes, "
        "túnica/blusón",
    ),
    "Women's Jeans": (
        "Pantalones de mujer",
        "vaqueros de mujer/jeans de mujer, leggings/mallas de mujer, "
        "pantalón de vestir de mujer/pantalones de mujer, falda/falda midi",
    ),
    "Sweaters": (
        "Jerséis de mujer",
        "jersey de mujer/suéter de mujer, cárdigan/rebeca, sudadera con capucha/sudadera de mujer",
    ),
    "Shirts": (
        "Camisas de hombre",
        "camisa de vestir de hombre/camisa formal, camiseta de hombre/camiseta masculina, "
        "polo de hombre/camisa polo, camisa de franela/camisa a cuadros",
    ),
    "Trousers": (
        "Pantalones de hombre",
        "vaqueros de hombre/jeans de hombre, pantalón chino/chinos de hombre, "
        "pantalón cargo/pantalón multibolsillos, pantalón de chándal/joggers, bermudas/pantalón corto de hombre",
    ),
    "Jackets": (
        "Chaquetas y abrigos",
        "chaqueta de hombre/abrigo de hombre, chubasquero/impermeable de lluvia, plumífero/anorak acolchado, "
        "cazadora bomber/chaqueta bomber, americana/blazer de hombre",
    ),
    "Women's Sneakers": (
        "Zapatillas de mujer",
        "zapatillas de mujer/deportivas de mujer, zapatillas de correr de mujer/zapatillas running mujer, "
        "zapatillas sin cordones/slip on de mujer",
    ),
    "Men's Sneakers": (
        "Zapatillas de hombre",
        "zapatillas de hombre/deportivas de hombre, zapatillas de correr de hombre/zapatillas running hombre, "
        "zapatillas altas/zapatillas de baloncesto",
    ),
    "Heels": (
        "Zapatos de tacón",
        "zapatos de tacón/tacones, zapatos de tacón de aguja/stilettos, sandalias de cuña/cuñas, "
        "zapatos de tacón ancho/tacón grueso",
    ),
    "Boots": (
        "Botas",
        "botas de montaña/botas de senderismo, botines/botas de tobillo, botas de agua/katiuskas, "
        "botas de trabajo/botas de seguridad, botas de nieve/descansos",
    ),
    "Socks": (
        "Calcetines",
        "calcetines altos/calcetines de media caña, calcetines tobilleros/calcetines invisibles, "
        "calcetines de compresión/medias de compresión, calcetines de senderismo",
    ),
    "Handbags": (
        "Bolsos",
        "bolso de mano/bolso de mujer, bolso tote/bolso shopper, bandolera/bolso cruzado, clutch/bolso de fiesta",
    ),
    "Wallets": (
        "Carteras",
        "cartera/billetera, tarjetero/porta tarjetas, clip para billetes/pinza para billetes, "
        "funda de pasaporte/porta pasaporte",
    ),
    "Belts": (
        "Cinturones",
        "cinturón de vestir/cinturón clásico, cinturón de lona/cinturón militar, "
        "cinturón trenzado/cinturón elástico trenzado, tirantes/tirantes de pantalón",
    ),
    "Scarves": (
        "Bufandas y gorros",
        "bufanda/fular, guantes de invierno/manoplas, gorro de punto/gorro de lana, gorra de béisbol/gorra, "
        "sombrero de paja/pamela",
    ),
    "Watches": (
        "Relojes",
        "reloj de pulsera/reloj analógico, reloj digital/reloj deportivo, cronógrafo/reloj cronógrafo, "
        "reloj inteligente/smartwatch",
    ),
    "Jewelry": ("Joyería", "collar/colgante, pendientes/aretes, pulsera/brazalete, anillo/sortija"),
    "Sunglasses": (
        "Gafas",
        "gafas de sol/lentes de sol, gafas de lectura/gafas de cerca, gafas de esquí/máscara de esquí, "
        "gafas de luz azul/gafas para ordenador",
    ),
    "Smartphones": (
        "Móviles",
        "smartphone/teléfono móvil/móvil libre, móvil resistente/teléfono todoterreno, "
        "móvil con tapa/teléfono para mayores",
    ),
    "Phone Cases": (
        "Fundas de móvil",
        "funda de móvil/carcasa de móvil, funda con tapa/funda cartera, bolsa para móvil/funda acuática",
    ),
    "Chargers": (
        "Cargadores",
        "cargador de móvil/cargador de pared, batería externa/powerbank, cargador inalámbrico/base de carga, "
        "cargador de coche/cargador para el mechero",
    ),
    "Screen Protectors": (
        "Protectores de pantalla",
        "protector de pantalla/lámina protectora, protector de cámara/protector de lente, "
        "filtro de privacidad/protector antiespía",
    ),
    "Headphones": (
        "Auriculares",
        "auriculares/cascos, auriculares gaming/cascos con micrófono, auriculares supraaurales/cascos on ear, "
        "auriculares infantiles/cascos para niños",
    ),
    "Earbuds": (
        "Auriculares de botón",
        "auriculares de botón/auriculares in ear, auriculares deportivos/auriculares para correr, "
        "auriculares para dormir/tapones con sonido",
    ),
    "Speakers": (
        "Altavoces",
        "altavoz bluetooth/altavoz portátil, barra de sonido/altavoz de televisor, altavoces de estantería, "
        "altavoz inteligente/asistente de voz",
    ),
    "Microphones": (
        "Micrófonos",
        "micrófono usb/micrófono de podcast, micrófono de solapa/micrófono lavalier, "
        "micrófono de condensador/micrófono de estudio, soporte de micrófono/brazo de micrófono",
    ),
    "Laptops": (
        "Portátiles",
        "portátil/ordenador portátil, chromebook/portátil en la nube, portátil gaming/portátil para juegos, "
        "portátil 2 en 1/portátil convertible",
    ),
    "Laptop Bags": (
        "Fundas de portátil",
        "funda de portátil/funda de ordenador, mochila de portátil/mochila para ordenador, "
        "maletín de portátil/bolsa mensajero",
    ),
    "Keyboards": (
        "Teclados",
        "teclado de ordenador/teclado para pc, teclado mecánico/teclado gaming, "
        "teclado de tableta/teclado para tablet, teclado numérico/keypad numérico",
    ),
    "Computer Mice": (
        "Ratones",
        "ratón de ordenador/ratón para pc, ratón gaming/ratón para juegos, ratón de bola/trackball, "
        "alfombrilla de ratón/tapete de ratón",
    ),
    "Monitors": (
        "Monitores",
        "monitor/pantalla de ordenador, monitor portátil/pantalla de viaje, monitor ultrapanorámico/monitor ultrawide",
    ),
    "Monitor Mounts": (
        "Soportes de pantalla",
        "brazo de monitor/soporte de monitor, elevador de monitor/base de monitor, "
        "soporte de portátil/elevador de portátil, soporte de televisor/soporte de pared para tele",
    ),
    "Televisions": (
        "Televisores",
        "televisor/tele, smart tv/televisor inteligente, proyector/proyector de vídeo, "
        "reproductor multimedia/dongle de streaming",
    ),
    "Cameras": (
        "Cámaras",
        "cámara digital/cámara compacta, cámara de acción/cámara deportiva, "
        "cámara instantánea/cámara de impresión instantánea, cámara de coche/dashcam",
    ),
    "Tripods": (
        "Trípodes",
        "trípode/trípode de cámara, palo selfie/trípode de móvil, aro de luz/luz para selfies, "
        "bolsa de cámara/funda de cámara",
    ),
    "Desks": (
        "Escritorios",
        "escritorio/mesa de trabajo, escritorio elevable/mesa para trabajar de pie, "
        "escritorio esquinero/mesa en l, escritorio plegable/mesa abatible",
    ),
    "Office Chairs": (
        "Sillas de oficina",
        "silla de oficina/silla de escritorio, silla gaming/silla gamer, "
        "taburete de dibujo/taburete alto de oficina, reposapiés/apoyapiés",
    ),
    "Notebooks": (
        "Cuadernos",
        "cuaderno/libreta, agenda/planificador, cuaderno de dibujo/bloc de dibujo, notas adhesivas/pósits",
    ),
    "Pens": (
        "Bolígrafos",
        "bolígrafo/boli, bolígrafos de gel/rollers de gel, pluma estilográfica/estilográfica, "
        "subrayador/marcador fluorescente, lápiz/lápiz de grafito",
    ),
    "Guitars": (
        "Guitarras",
        "guitarra acústica/guitarra folk, guitarra eléctrica, ukelele/ukelele soprano, bajo eléctrico/guitarra bajo",
    ),
    "Guitar Accessories": (
        "Accesorios de guitarra",
        "correa de guitarra, cuerdas de guitarra, cejilla/capo de guitarra, soporte de guitarra/pie de guitarra, "
        "afinador de guitarra/afinador de pinza",
    ),
    "Pianos": (
        "Pianos y otros",
        "piano digital/piano eléctrico, teclado musical/órgano electrónico, batería acústica/kit de batería, violín",
    ),
    "Yoga Mats": (
        "Esterillas de yoga",
        "esterilla de yoga/esterilla de pilates, colchoneta de ejercicio/colchoneta de gimnasia, "
        "bloque de yoga/ladrillo de yoga, rodillo de espuma/rodillo de masaje",
    ),
    "Weights": (
        "Pesas",
        "mancuernas/pesas de mano, pesa rusa/kettlebell, bandas elásticas/gomas de ejercicio, "
        "banco de pesas/banco de musculación, barra de dominadas/barra de puerta",
    ),
    "Water Bottles": (
        "Botellas de agua",
        "botella de agua/cantimplora, botella térmica/termo, botella mezcladora/shaker de proteínas, "
        "mochila de hidratación/bolsa de hidratación",
    ),
    "Tents": (
        "Tiendas de campaña",
        "tienda de campaña/tienda iglú, tienda instantánea/tienda pop up, tienda de trekking/tienda ultraligera, "
        "carpa/cenador",
    ),
    "Sleeping Bags": (
        "Sacos de dormir",
        "saco de dormir, esterilla aislante/colchoneta de camping, hamaca de camping/hamaca colgante, "
        "manta de camping/manta de exterior",
    ),
    "Camping Gear": (
        "Material de camping",
        "hornillo de camping/cocina de gas portátil, linterna frontal/frontal, "
        "silla de camping/silla de acampada, nevera portátil/nevera de playa, linterna/linterna de mano",
    ),
    "Bicycles": (
        "Bicicletas",
        "bicicleta de montaña/btt, bicicleta de carretera/bici de carreras, bicicleta urbana/bici de paseo, "
        "bicicleta eléctrica/e-bike, bicicleta infantil/bici de niño",
    ),
    "Bike Helmets": (
        "Cascos de bicicleta",
        "casco de bicicleta/casco de ciclismo, casco de patinete/casco de skate, "
        "guantes de ciclismo/guantes de bici, rodilleras/coderas",
    ),
    "Bike Locks": (
        "Accesorios de bicicleta",
        "candado de bicicleta/antirrobo de bici, luz de bicicleta/foco de bici, "
        "bomba de bicicleta/inflador de bici, portabicicletas/soporte de bicis, bolsa de sillín",
    ),
    "Suitcases": (
        "Maletas",
        "maleta/maleta de viaje, maleta de cabina/equipaje de mano, bolsa de viaje/petate, portatrajes/funda de traje",
    ),
    "Backpacks": (
        "Mochilas",
        "mochila/mochila de diario, mochila escolar/cartera escolar, mochila de montaña/mochila de trekking, "
        "bolso cruzado de pecho/mochila de un tirante",
    ),
    "Travel Accessories": (
        "Accesorios de viaje",
        "organizadores de maleta/cubos de equipaje, neceser/bolsa de aseo, "
        "etiquetas de equipaje/identificadores de maleta, adaptador de viaje/adaptador de enchufe, "
        "antifaz para dormir/antifaz de viaje",
    ),
    "Garden Hoses": (
        "Mangueras",
        "manguera de jardín/manguera de riego, manguera de goteo/manguera porosa, manguera en espiral, "
        "carrete de manguera/carro portamangueras",
    ),
    "Hose Nozzles": (
        "Riego",
        "pistola de riego/boquilla de manguera, aspersor/aspersor de césped, regadera/regadera de plantas, "
        "conector de manguera/racor de manguera",
    ),
    "Planters": (
        "Macetas",
        "maceta/tiesto, maceta colgante/cesta colgante, bancal elevado/mesa de cultivo, jardinera/jardinera de balcón",
    ),
    "Garden Tools": (
        "Herramientas de jardín",
        "tijeras de podar/podadera, pala de mano/palita de jardín, rastrillo/rastrillo de hojas, "
        "guantes de jardín, carretilla/carretilla de jardín, laya/pala de cavar",
    ),
    "Lawn Mowers": (
        "Cortacéspedes",
        "cortacésped/segadora, desbrozadora/recortabordes, soplador de hojas/aspirador de jardín, cortasetos, "
        "motosierra/sierra de cadena",
    ),
    "Patio Chairs": (
        "Muebles de terraza",
        "silla de jardín/silla de terraza, silla adirondack, conjunto de terraza/muebles de jardín, "
        "tumbona/hamaca de piscina, banco de jardín/banco de exterior",
    ),
    "Patio Umbrellas": (
        "Sombrillas",
        "sombrilla de jardín/parasol, parasol excéntrico/sombrilla lateral, vela de sombra/toldo vela, "
        "base de sombrilla/pie de parasol",
    ),
    "Grills": (
        "Barbacoas",
        "barbacoa de carbón/parrilla de carbón, barbacoa de gas/parrilla de gas, ahumador, "
        "brasero/hoguera de jardín, horno de pizza",
    ),
    "Grill Tools": (
        "Utensilios de barbacoa",
        "utensilios de barbacoa/set de barbacoa, cepillo de barbacoa/limpiador de parrilla, "
        "termómetro de carne/termómetro de cocina, funda de barbacoa/cubierta de barbacoa",
    ),
    "Drills": (
        "Taladros",
        "taladro inalámbrico/taladro de batería, taladro percutor/martillo percutor, "
        "atornillador eléctrico/destornillador eléctrico, sierra circular, lijadora/lijadora eléctrica",
    ),
    "Drill Bits": (
        "Brocas",
        "juego de brocas/brocas, corona perforadora/sierra de corona, "
        "puntas de atornillar/puntas de destornillador, hoja de sierra/disco de corte, "
        "papel de lija/discos de lija",
    ),
    "Tool Boxes": (
        "Cajas de herramientas",
        "caja de herramientas/baúl de herramientas, juego de herramientas/set de herramientas, "
        "bolsa de herramientas/bolso portaherramientas, cinturón de herramientas/delantal de trabajo, "
        "juego de llaves de vaso/juego de carraca, martillo/mazo",
    ),
    "Work Gloves": (
        "Protección laboral",
        "guantes de trabajo/guantes de seguridad, gafas de seguridad/gafas protectoras, "
        "orejeras/protectores auditivos, mascarilla antipolvo/respirador",
    ),
    "Ladders": (
        "Escaleras",
        "escalera de tijera/escalera plegable, escalera extensible/escalera telescópica, "
        "taburete escalera/escalón de cocina, caballete/banco de trabajo",
    ),
    "Dog Beds": (
        "Camas de perro",
        "cama para perro/colchoneta de mascota, jaula para perro/parque para perro, sofá para perro/sofá de mascota",
    ),
    "Dog Leashes": (
        "Correas de perro",
        "correa de perro/correa de paseo, arnés de perro/arnés antitirones, collar de perro, "
        "abrigo de perro/chaleco de perro",
    ),
    "Dog Bowls": (
        "Comederos",
        "comedero de perro/plato de mascota, comedero lento/comedero antivoracidad, "
        "fuente de agua para mascotas/bebedero de perro, comedero automático/dispensador de pienso",
    ),
    "Dog Toys": (
        "Juguetes de perro",
        "mordedor de perro/juguete mordedor, pelota de perro/pelota de lanzar, "
        "peluche de perro/juguete con pito, cuerda de perro/juguete de cuerda",
    ),
    "Cat Trees": (
        "Rascadores",
        "árbol para gatos/torre para gatos, poste rascador/rascador de gato, "
        "hamaca de ventana para gatos/percha para gatos",
    ),
    "Cat Litter Boxes": (
        "Areneros",
        "arenero/bandeja de arena, alfombrilla de arenero, transportín de gato/transportín de mascota, pala de arenero",
    ),
    "Aquariums": (
        "Acuarios",
        "acuario/pecera, filtro de acuario/filtro de pecera, luz de acuario/lámpara de pecera, "
        "calentador de acuario/termocalentador",
    ),
    "Strollers": (
        "Carritos de bebé",
        "silla de paseo/carrito de bebé, silla gemelar/carrito doble, cochecito/capazo con ruedas, "
        "silla de running/carrito deportivo",
    ),
    "Car Seats": (
        "Sillas de coche",
        "silla de coche/silla de auto, elevador infantil/alzador, mochila portabebés/fular portabebés, "
        "base de silla de coche",
    ),
    "Diaper Bags": (
        "Bolsos de maternidad",
        "bolso cambiador/bolso de pañales, cambiador portátil/cambiador de viaje, "
        "organizador de carrito/bolsa de carrito, bolsa de biberones/porta biberones",
    ),
    "Cribs": ("Cunas", "cuna/cuna de bebé, moisés/minicuna, parque de bebé/corralito, cama infantil/camita"),
    "Nursery Textiles": (
        "Textil de bebé",
        "sábana de cuna/bajera de cuna, arrullo/mantita envolvente, manta de bebé/mantita de bebé, "
        "saco de dormir de bebé/saquito de bebé, gasa/muselina",
    ),
    "Baby Monitors": (
        "Vigilabebés",
        "vigilabebés/cámara de bebé, máquina de ruido blanco/aparato de ruido blanco, "
        "luz quitamiedos/luz nocturna, humidificador de bebé/humidificador de vapor frío",
    ),
    "Building Toys": (
        "Juguetes de construcción",
        "bloques de construcción/ladrillos de construcción, bloques magnéticos/piezas imantadas, "
        "tren de juguete/circuito de tren, circuito de canicas/laberinto de canicas",
    ),
    "Toy Storage": (
        "Guarda juguetes",
        "baúl de juguetes/cofre de juguetes, cajas para juguetes/organizador de cubos, "
        "bolsa recoge juguetes/manta guarda juguetes, librería infantil",
    ),
    "Dolls": (
        "Muñecos y peluches",
        "muñeca/muñeco bebé, casa de muñecas/casita de muñecas, peluche/animal de peluche, "
        "figura de acción/figura de juguete, oso de peluche/osito",
    ),
    "Board Games": (
        "Juegos de mesa",
        "juego de mesa/juego familiar, juego de cartas/baraja, ajedrez/tablero de ajedrez, puzle/rompecabezas, "
        "dominó/juego de fichas",
    ),
    "Ride-Ons": (
        "Correpasillos y patinetes",
        "patinete/patinete infantil, bicicleta sin pedales/bici de equilibrio, patines/patines en línea, "
        "cama elástica/trampolín, columpio/columpio de jardín",
    ),
}
