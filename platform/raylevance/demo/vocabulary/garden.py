"""Garden and tools."""

from raylevance.demo.vocabulary.leaf import Leaf

LEAVES = (
    Leaf(
        category="Garden > Watering > Garden Hoses",
        brands="garden",
        types="garden hose/water hose/hosepipe, soaker hose/drip hose, coil hose/spiral hose, hose reel/hose cart",
        colours="garden",
        materials="rubber, latex, vinyl/pvc, stainless steel",
        styles="expandable/expanding, kink free/no kink, heavy duty, lightweight/flexible",
        sizes="50 ft/50 foot, 25 ft/25 foot, 100 ft/100 foot, 75 ft/75 foot",
        uses="large lawns, balcony gardens, car washing",
        complements=("Hose Nozzles",),
    ),
    Leaf(
        category="Garden > Watering > Hose Nozzles",
        brands="garden",
        types=(
            "hose nozzle/spray nozzle, lawn sprinkler/garden sprinkler, watering can/plant waterer, "
            "hose connector/hose fitting"
        ),
        colours="garden",
        materials="brass, plastic, zinc alloy/metal, stainless steel",
        styles="adjustable/multi pattern, oscillating, leakproof/drip free, with timer/programmable",
        sizes="pack of 1, pack of 2, pack of 4",
        uses="thirsty flower beds, large lawns, car washing",
        complements=("Garden Hoses",),
    ),
    Leaf(
        category="Garden > Growing > Planters",
        brands="garden",
        types=(
            "planter/plant pot/flower pot, hanging basket/hanging planter, raised bed/garden box, "
            "window box/railing planter"
        ),
        colours="garden",
        materials="ceramic, plastic/resin, terracotta clay, wood, metal",
        styles="self watering, with drainage/with holes, indoor/tabletop, modern/contemporary",
        sizes="6 inch, 10 inch, 14 inch, 24 inch",
        uses="balcony gardens, kitchen herbs, sunny patios",
        complements=("Garden Tools",),
    ),
    Leaf(
        category="Garden > Growing > Garden Tools",
        brands="garden",
        types=(
            "pruning shears/secateurs, garden trowel/hand shovel, rake/leaf rake, garden gloves, "
            "wheelbarrow/garden cart, spade/digging shovel"
        ),
        colours="garden",
        materials="stainless steel, carbon steel, wood, aluminum/aluminium",
        styles="ergonomic/soft grip, heavy duty, telescopic/extendable, rust resistant/rustproof",
        sizes="small, medium, large",
        uses="rose beds, autumn leaves, kitchen herbs",
        complements=("Planters",),
    ),
    Leaf(
        category="Garden > Growing > Lawn Mowers",
        brands="tools",
        types=(
            "lawn mower/grass cutter, string trimmer/weed eater/strimmer, leaf blower/garden vacuum, hedge trimmer, "
            "chainsaw/power saw"
        ),
        colours="tools",
        materials="steel, plastic, aluminum/aluminium",
        styles="cordless/battery powered, gas powered/petrol, quiet/low noise, self propelled",
        sizes="12 inch, 16 inch, 20 inch",
        uses="large lawns, autumn leaves, overgrown hedges",
        complements=("Garden Tools",),
    ),
    Leaf(
        category="Garden > Patio > Patio Chairs",
        brands="garden",
        types=(
            "patio chair/garden chair, adirondack chair, patio set/outdoor furniture set, chaise lounge/sun lounger, "
            "garden bench/outdoor bench"
        ),
        colours="garden",
        materials="wicker/rattan, teak, aluminum/aluminium, plastic/resin",
        styles="foldable, weatherproof/all weather, stackable, with cushions/padded, reclining",
        sizes="set of 2, set of 4, single/1 piece",
        uses="sunny patios, pool parties, long summer evenings",
        complements=("Patio Umbrellas",),
    ),
    Leaf(
        category="Garden > Patio > Patio Umbrellas",
        brands="garden",
        types=(
            "patio umbrella/garden parasol, cantilever umbrella/offset umbrella, shade sail/sun sail, "
            "umbrella base/parasol stand"
        ),
        colours="textile",
        materials="polyester, aluminum/aluminium, wood, concrete",
        styles="tilting, uv resistant/sun blocking, with lights/led, waterproof/water repellent",
        sizes="7.5 ft, 9 ft, 10 ft",
        uses="sunny patios, pool parties, long lunches outdoors",
        complements=("Patio Chairs",),
    ),
    Leaf(
        category="Garden > Patio > Grills",
        brands="garden",
        types=(
            "charcoal grill/bbq/barbecue, gas grill/propane grill, smoker/smoking grill, fire pit/fire bowl, pizza oven"
        ),
        colours="kitchen",
        materials="stainless steel, cast iron, steel, ceramic",
        styles="portable/tabletop, with side burner, with wheels/rolling, with cover/with lid",
        sizes="2 burner, 3 burner, 4 burner",
        uses="long summer evenings, tailgate parties, weekend cookouts",
        complements=("Grill Tools",),
    ),
    Leaf(
        category="Garden > Patio > Grill Tools",
        brands="garden",
        types=(
            "grill tool set/bbq utensils, grill brush/barbecue cleaner, meat thermometer/food thermometer, "
            "grill cover/bbq cover"
        ),
        colours="kitchen",
        materials="stainless steel, silicone, polyester, wood",
        styles="wireless/bluetooth, waterproof/water resistant, heavy duty, instant read/fast reading, bristle free",
        sizes="4 piece/set of 4, 10 piece/set of 10, 20 piece/set of 20",
        uses="weekend cookouts, father's day gifts, perfect steaks",
        complements=("Grills",),
    ),
    Leaf(
        category="Tools > Power Tools > Drills",
        brands="tools",
        types=(
            "cordless drill/power drill, hammer drill/impact drill, electric screwdriver/power screwdriver, "
            "circular saw, sander/sanding machine"
        ),
        colours="tools",
        materials="plastic, metal, magnesium alloy",
        styles="brushless, variable speed, with battery/battery included, compact/lightweight",
        sizes="12 volt/12v, 18 volt/18v, 20 volt/20v",
        uses="furniture assembly, weekend projects, building sites",
        complements=("Drill Bits", "Tool Boxes"),
    ),
    Leaf(
        category="Tools > Power Tools > Drill Bits",
        brands="tools",
        types=(
            "drill bit set/drill bits, hole saw/hole cutter, screwdriver bits/driver bits, saw blade/cutting blade, "
            "sandpaper/sanding discs"
        ),
        colours="tools",
        materials="cobalt steel, titanium coated, carbide, high speed steel/hss",
        styles="for metal/metal cutting, for concrete/masonry, for wood/woodworking, quick change/hex shank",
        sizes="13 piece/set of 13, 29 piece/set of 29, 60 piece/set of 60",
        uses="weekend projects, concrete walls, furniture assembly",
        complements=("Drills",),
    ),
    Leaf(
        category="Tools > Hand Tools > Tool Boxes",
        brands="tools",
        types=(
            "tool box/toolbox/tool chest, tool set/tool kit, tool bag/tool tote, tool belt/work apron, "
            "socket set/ratchet set, hammer/mallet"
        ),
        colours="tools",
        materials="steel, plastic, canvas, chrome vanadium",
        styles="portable/with handle, with wheels/rolling, lockable, heavy duty",
        sizes="39 piece/39pc, 100 piece/100pc, 200 piece/200pc",
        uses="first apartments, building sites, weekend projects",
        complements=("Drills", "Work Gloves"),
    ),
    Leaf(
        category="Tools > Hand Tools > Work Gloves",
        brands="tools",
        types=(
            "work gloves/safety gloves, safety glasses/protective eyewear, ear muffs/hearing protection, "
            "dust mask/respirator"
        ),
        colours="tools",
        materials="leather/genuine leather, nitrile, nylon, polycarbonate",
        styles="cut resistant/cut proof, breathable/ventilated, waterproof/water resistant, touchscreen/phone friendly",
        sizes="large, medium, x-large/size xl, small",
        uses="building sites, splintery jobs, weekend projects",
        complements=("Tool Boxes",),
    ),
    Leaf(
        category="Tools > Hand Tools > Ladders",
        brands="tools",
        types=(
            "step ladder/folding ladder, extension ladder/telescoping ladder, step stool/kitchen steps, "
            "sawhorse/work bench"
        ),
        colours="tools",
        materials="aluminum/aluminium, steel, fiberglass, wood",
        styles="non-slip/anti-skid, lightweight/portable, with handrail, multi position/multi purpose",
        sizes="2 step, 3 step, 6 ft/6 foot, 12 ft/12 foot",
        uses="high shelves, window cleaning, ceiling painting",
        complements=("Tool Boxes",),
    ),
)
