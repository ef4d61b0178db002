"""Office and music."""

from raylevance.demo.vocabulary.leaf import Leaf

LEAVES = (
    Leaf(
        category="Office > Furniture > Desks",
        brands="office",
        types="desk/writing table/workstation, standing desk/sit stand desk, corner desk/l-shaped desk, folding desk",
        colours="furniture",
        materials="engineered wood/mdf, solid oak/oak wood, steel, bamboo, glass",
        styles=(
            "adjustable/height adjustable, with drawers/with storage, industrial, minimalist/simple, electric/motorized"
        ),
        sizes="40 inch, 48 inch, 55 inch, 63 inch",
        uses="home offices, students, small apartments",
        complements=("Office Chairs", "Monitors", "Table Lamps"),
    ),
    Leaf(
        category="Office > Furniture > Office Chairs",
        brands="office",
        types=(
            "office chair/desk chair/computer chair, gaming chair/racing chair, drafting stool/tall office stool, "
            "footrest"
        ),
        colours="leather",
        materials="mesh, faux leather/vegan leather, fabric, leather/genuine leather",
        styles="ergonomic/lumbar support, high back/executive, swivel, armless, reclining",
        sizes="standard/regular, big and tall/heavy duty, petite/small",
        uses="long workdays, sore backs, home offices",
        complements=("Desks",),
    ),
    Leaf(
        category="Office > Stationery > Notebooks",
        brands="office",
        types="notebook/writing journal, planner/diary/agenda, sketchbook/drawing pad, sticky notes/memo notes",
        colours="bright",
        materials="recycled paper, leather bound, hardcover, kraft paper",
        styles="dotted/bullet, lined/ruled, undated, spiral/wirebound",
        sizes="a5, a4, b5, pocket size",
        uses="meeting notes, morning pages, art students",
        complements=("Pens",),
    ),
    Leaf(
        category="Office > Stationery > Pens",
        brands="office",
        types=(
            "ballpoint pen/biro, gel pens/rollerball pens, fountain pen/ink pen, highlighter/marker pen, "
            "pencil/graphite pencil"
        ),
        colours="bright",
        materials="plastic, metal, wood, recycled plastic",
        styles="fine point/fine tip, quick drying/smudge free, refillable, retractable/click",
        sizes="pack of 5, pack of 12, pack of 24",
        uses="meeting notes, left handed writers, art students",
        complements=("Notebooks",),
    ),
    Leaf(
        category="Music > Instruments > Guitars",
        brands="music",
        types="acoustic guitar/folk guitar, electric guitar, ukulele/uke, bass guitar/electric bass",
        colours="furniture",
        materials="spruce, mahogany, maple, basswood",
        styles="beginner/starter, cutaway, left handed, with gig bag/with case",
        sizes="full size, three quarter size, travel size",
        uses="first lessons, campfire songs, studio sessions",
        complements=("Guitar Accessories",),
    ),
    Leaf(
        category="Music > Instruments > Guitar Accessories",
        brands="music",
        types="guitar strap, guitar strings, capo/guitar clamp, guitar stand/guitar holder, guitar tuner/clip-on tuner",
        colours="leather",
        materials="leather/genuine leather, nylon, steel, aluminum/aluminium",
        styles="adjustable/extendable, foldable, vintage/antique, lightweight/portable",
        sizes="pack of 1, pack of 2, pack of 3",
        uses="stage nights, first lessons, christmas gifts",
        complements=("Guitars",),
    ),
    Leaf(
        category="Music > Instruments > Pianos",
        brands="music",
        types="digital piano/electric piano, keyboard piano/music keyboard, drum set/drum kit, violin/fiddle",
        colours="furniture",
        materials="wood, plastic, maple",
        styles="weighted/hammer action, beginner/starter, portable/roll up, with stand/with bench",
        sizes="61 key, 88 key, 49 key",
        uses="first lessons, small apartments, school bands",
        complements=("Headphones",),
    ),
)
