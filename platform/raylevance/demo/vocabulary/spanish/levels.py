"""The upper levels of the category paths in Spanish."""

LEVELS = {
    "Home": "Hogar", "Kitchen": "Cocina", "Fashion": "Moda", "Electronics": "Electrónica", "Office": "Oficina",
    "Music": "Música", "Sports": "Deportes", "Travel": "Viaje", "Garden": "Jardín", "Tools": "Herramientas",
    "Pets": "Mascotas", "Baby": "Bebé", "Toys": "Juguetes", "Living Room": "Salón", "Lighting": "Iluminación",
    "Bedroom": "Dormitorio", "Bath": "Baño", "Appliances": "Electrodomésticos", "Cookware": "Menaje",
    "Tableware": "Mesa", "Women": "Mujer", "Men": "Hombre", "Shoes": "Calzado", "Accessories": "Complementos",
    "Phones": "Telefonía", "Audio": "Audio", "Computers": "Informática", "Television": "Televisión",
    "Cameras": "Fotografía", "Furniture": "Muebles", "Stationery": "Papelería", "Instruments": "Instrumentos",
    "Fitness": "Fitness", "Camping": "Camping", "Cycling": "Ciclismo", "Luggage": "Equipaje",
    "Watering": "Riego y mangueras", "Growing": "Cultivo", "Patio": "Terraza",
    "Power Tools": "Herramientas eléctricas", "Hand Tools": "Herramientas manuales", "Dogs": "Perros",
    "Cats": "Gatos", "Fish": "Peces", "On The Go": "De paseo", "Nursery": "Habitación del bebé", "Play": "Para jugar",
    "Games": "Juegos", "Outdoor": "Aire libre",
}  # fmt: skip
