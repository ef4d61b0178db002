"""Invented brands by the groups of leaves they sell in, from large to small, each with its price tier."""

TIERS = ("budget", "mid-range", "premium")

BRAND_GROUPS = {
    "home": (
        ("Halvorn", 1), ("Casa Lumbra", 1), ("Oakmere", 2), ("Nestivo", 0), ("Brindlewood", 1), ("Plainhaus", 0),
        ("Velmora", 2), ("Tuftery", 1), ("Lindqvale", 2), ("Hearthlane", 0), ("Morrowby", 1), ("Softwell", 0),
    ),
    "kitchen": (
        ("Cuisora", 1), ("Brewkind", 1), ("Panterra", 2), ("Kettlewick", 0), ("Simmerly", 0), ("Forno Vasto", 2),
        ("Stovemark", 1), ("Whiskett", 0), ("Mesa Blu", 1), ("Gourmando", 2), ("Tastewright", 1),
    ),
    "fashion": (
        ("Marrowe", 1), ("Elsinde", 2), ("Urbanique Row", 0), ("Tessaly", 1), ("Northbourne", 1), ("Calypta", 2),
        ("Threadgood", 0), ("Ravello & Finch", 2), ("Basicly", 0), ("Solenne", 1), ("Dapperly", 1), ("Wrenfield", 0),
    ),
    "footwear": (
        ("Stridewell", 1), ("Pacerra", 1), ("Fleetmark", 0), ("Bootwright", 2), ("Solaro", 0), ("Heelandra", 2),
        ("Trailmoor", 1), ("Cobbleton", 1), ("Velocita Run", 2), ("Walkabout & Co", 0),
    ),
    "phone": (
        ("Celestra", 2), ("Novafon", 1), ("Pixelon", 1), ("Kiwire", 0), ("Armorix", 1), ("Chargely", 0),
        ("Orbitalk", 1), ("Slimshell", 0), ("Voltari", 2), ("Tapwave", 0),
    ),
    "tech": (
        ("Zentrix", 1), ("Sonavox", 2), ("Quillbyte", 1), ("Lumatek", 1), ("Budgeon", 0), ("Auralis", 2),
        ("Corelance", 2), ("Pebbletronic", 0), ("Vistamax", 1), ("Keystrel", 1), ("Wavelet Labs", 0),
    ),
    "sport": (
        ("Peakline", 1), ("Kinetra", 1), ("Ironfern", 2), ("Summitry", 2), ("Flexora", 0), ("Campwell", 0),
        ("Rideaux", 1), ("Aerovel", 2), ("Outbound Elk", 1), ("Gritworks", 0), ("Spokehaven", 1),
    ),
    "garden": (
        ("Greenmantle", 1), ("Verdanta", 1), ("Thistledown", 2), ("Yardwise", 0), ("Sprigley", 0), ("Emberpatio", 2),
        ("Dewhurst Garden", 1), ("Rootsome", 0), ("Terraluna", 1),
    ),
    "tools": (
        ("Hammerholt", 1), ("Torqwell", 1), ("Boltmaster Pro", 2), ("Fixably", 0), ("Steelgrove", 2), ("Wrenchford", 1),
        ("Handyrow", 0), ("Drillmont", 1), ("Ironquay", 0),
    ),
    "pet": (
        ("Pawsley", 1), ("Whiskerdom", 1), ("Barkhaven", 0), ("Furrow & Tail", 2), ("Snoutly", 0), ("Purrfolk", 2),
        ("Aquarelle Pets", 1), ("Waggery", 1),
    ),
    "family": (
        ("Littlebrook", 1), ("Cribble", 0), ("Tottermore", 1), ("Bumbleway", 1), ("Kinderelm", 2), ("Playmarrow", 0),
        ("Puzzlewick", 1), ("Snugabye", 2), ("Jollykin", 0), ("Dreamloft Kids", 1),
    ),
    "office": (
        ("Inkwell Lane", 1), ("Deskora", 1), ("Papyra", 2), ("Scribely", 0), ("Ergonaut", 2), ("Taskline", 0),
        ("Quillmark", 1), ("Foliant", 1),
    ),
    "music": (
        ("Cantabra", 1), ("Resonari", 2), ("Strumfield", 0), ("Tonewright", 1), ("Maple & Reed", 2), ("Chordwell", 0),
        ("Harmonico", 1),
    ),
}  # fmt: skip
