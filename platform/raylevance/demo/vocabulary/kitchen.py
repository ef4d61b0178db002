"""Kitchen and table."""

from raylevance.demo.vocabulary.leaf import Leaf

LEAVES = (
    Leaf(
        category="Kitchen > Appliances > Coffee Makers",
        brands="kitchen",
        types=(
            "coffee maker/coffee machine, espresso machine/espresso maker, french press/cafetiere, "
            "pour over set/drip cone"
        ),
        colours="kitchen",
        materials="stainless steel, glass, plastic",
        styles="programmable/with timer, single serve/one cup, thermal/insulated, compact/space saving",
        sizes="4 cup, 8 cup, 12 cup",
        uses="early mornings, office kitchens, coffee lovers",
        complements=("Mugs", "Coffee Grinders"),
    ),
    Leaf(
        category="Kitchen > Appliances > Coffee Grinders",
        brands="kitchen",
        types="coffee grinder/coffee mill, burr grinder/conical burr mill, milk frother/milk foamer",
        colours="kitchen",
        materials="stainless steel, ceramic, plastic",
        styles="electric/motorized, manual/hand crank, portable/travel, quiet/low noise",
        sizes="small/compact, medium, large/big",
        uses="coffee lovers, home baristas, camping trips",
        complements=("Coffee Makers",),
    ),
    Leaf(
        category="Kitchen > Appliances > Kettles",
        brands="kitchen",
        types="electric kettle/water boiler, stovetop kettle/whistling tea kettle, gooseneck kettle/pour over kettle",
        colours="kitchen",
        materials="stainless steel, glass, enamel",
        styles="temperature control/variable temperature, cordless, double wall, retro/vintage style",
        sizes="1 liter/1l, 1.5 liter/1.5l, 1.7 liter/1.7l",
        uses="tea drinkers, office kitchens, student rooms",
        complements=("Mugs",),
    ),
    Leaf(
        category="Kitchen > Appliances > Blenders",
        brands="kitchen",
        types=(
            "blender/smoothie maker/liquidiser, immersion blender/hand blender/stick blender, "
            "food processor/food chopper"
        ),
        colours="kitchen",
        materials="glass, plastic/bpa free plastic, stainless steel",
        styles="high speed/professional, portable/travel, quiet/low noise, rechargeable/cordless",
        sizes="500 watt/500w, 1000 watt/1000w, 1500 watt/1500w",
        uses="breakfast smoothies, baby food, soups and sauces",
        complements=("Water Bottles",),
    ),
    Leaf(
        category="Kitchen > Cookware > Frying Pans",
        brands="kitchen",
        types="frying pan/skillet, saucepan/sauce pot, wok/stir fry pan, dutch oven/casserole pot, griddle pan",
        colours="kitchen",
        materials="cast iron, stainless steel, ceramic, hard anodized aluminum/aluminium, carbon steel",
        styles="nonstick/non-stick, induction ready/induction compatible, oven safe, with lid",
        sizes="8 inch, 10 inch, 12 inch",
        uses="sunday breakfasts, one-pot dinners, gas and induction hobs",
        complements=("Kitchen Knives", "Cooking Utensils"),
    ),
    Leaf(
        category="Kitchen > Cookware > Kitchen Knives",
        brands="kitchen",
        types=(
            "chef knife/cook's knife, knife set/knife block set, bread knife/serrated knife, paring knife/peeling knife"
        ),
        colours="kitchen",
        materials="stainless steel, damascus steel, carbon steel, ceramic",
        styles="forged, dishwasher safe, full tang, japanese style",
        sizes="5 inch, 8 inch, 10 inch",
        uses="home cooks, careful carving, busy kitchens",
        complements=("Cutting Boards",),
    ),
    Leaf(
        category="Kitchen > Cookware > Cutting Boards",
        brands="kitchen",
        types="cutting board/chopping board, butcher block/carving block, serving board/cheese board/charcuterie board",
        colours="furniture",
        materials="bamboo, acacia wood, plastic/polypropylene, maple",
        styles="reversible/double sided, with juice groove, dishwasher safe, with handle",
        sizes="small, medium, large/extra large",
        uses="vegetable prep, party platters, small kitchens",
        complements=("Kitchen Knives",),
    ),
    Leaf(
        category="Kitchen > Cookware > Cooking Utensils",
        brands="kitchen",
        types="spatula/turner, cooking utensil set/kitchen tool set, measuring cups/measuring spoons, whisk/egg beater",
        colours="kitchen",
        materials="silicone, stainless steel, wood, nylon",
        styles="heat resistant/heatproof, dishwasher safe, with holder, scratch free",
        sizes="3 piece/set of 3, 5 piece/set of 5, 12 piece/set of 12",
        uses="weekend baking, first apartments, busy kitchens",
        complements=("Frying Pans",),
    ),
    Leaf(
        category="Kitchen > Tableware > Mugs",
        brands="kitchen",
        types="coffee mug/coffee cup, travel mug/tumbler/insulated cup, tea cup and saucer/teacup",
        colours="kitchen",
        materials="ceramic, stainless steel, porcelain, glass",
        styles="dishwasher safe, handmade/handcrafted, leakproof/spill proof, stackable",
        sizes="12 oz, 16 oz, 20 oz",
        uses="tea drinkers, long commutes, coffee lovers",
        complements=("Coffee Makers", "Kettles"),
    ),
    Leaf(
        category="Kitchen > Tableware > Dinnerware",
        brands="kitchen",
        types="dinnerware set/dish set, dinner plates, soup bowls/cereal bowls, flatware set/cutlery set/silverware",
        colours="kitchen",
        materials="stoneware, porcelain, stainless steel, melamine",
        styles="dishwasher safe, handmade/handcrafted, scalloped, lightweight/unbreakable",
        sizes="set of 4, set of 6/6 piece, 12 piece/set of 12",
        uses="dinner parties, everyday meals, garden picnics",
        complements=("Mugs",),
    ),
)
