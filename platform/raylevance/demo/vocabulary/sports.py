"""Sports and travel."""

from raylevance.demo.vocabulary.leaf import Leaf

LEAVES = (
    Leaf(
        category="Sports > Fitness > Yoga Mats",
        brands="sport",
        types="yoga mat/pilates mat, exercise mat/workout mat, yoga block/foam block, foam roller/massage roller",
        colours="sport",
        materials="tpe, natural rubber, cork, foam/eva foam",
        styles="non-slip/anti-skid, extra thick, foldable, eco friendly, with carry strap/with strap",
        sizes="4 mm/4mm, 6 mm/6mm, 10 mm/10mm",
        uses="yoga classes, sore backs, home workouts",
        complements=("Weights", "Water Bottles"),
    ),
    Leaf(
        category="Sports > Fitness > Weights",
        brands="sport",
        types=(
            "dumbbells/hand weights, kettlebell, resistance bands/exercise bands, weight bench/workout bench, "
            "pull up bar/chin up bar"
        ),
        colours="sport",
        materials="cast iron, rubber, neoprene, steel",
        styles="adjustable/variable, hex, foldable, heavy duty",
        sizes="10 lb/10 pound, 20 lb/20 pound, 35 lb/35 pound, 50 lb/50 pound",
        uses="home workouts, strength training, small apartments",
        complements=("Yoga Mats",),
    ),
    Leaf(
        category="Sports > Fitness > Water Bottles",
        brands="sport",
        types=(
            "water bottle/drinking bottle, insulated bottle/thermos/vacuum flask, shaker bottle/protein shaker, "
            "hydration pack"
        ),
        colours="sport",
        materials="stainless steel, tritan/bpa free plastic, glass, silicone",
        styles="leakproof/spill proof, with straw, wide mouth, collapsible/foldable, with time marker",
        sizes="24 oz, 32 oz, 40 oz, 64 oz",
        uses="gym sessions, autumn hikes, school lunches",
        complements=("Yoga Mats", "Backpacks"),
    ),
    Leaf(
        category="Sports > Camping > Tents",
        brands="sport",
        types="camping tent/dome tent, pop up tent/instant tent, backpacking tent/ultralight tent, canopy/gazebo",
        colours="garden",
        materials="polyester, nylon, cotton canvas",
        styles="waterproof/rainproof, lightweight/ultralight, easy set up/quick pitch, 4 season",
        sizes="2 person/two man, 4 person/four man, 6 person/six man, 8 person/eight man",
        uses="family camping, festival weekends, mountain nights",
        complements=("Sleeping Bags", "Camping Gear"),
    ),
    Leaf(
        category="Sports > Camping > Sleeping Bags",
        brands="sport",
        types="sleeping bag, sleeping pad/camping mat, camping hammock/hanging bed, camping blanket/outdoor quilt",
        colours="sport",
        materials="polyester, nylon, down/feather, cotton flannel",
        styles="mummy, cold weather/winter, compact/packable, double/two person, self inflating",
        sizes="regular, long/tall, kids size/children's",
        uses="mountain nights, family camping, sleepovers",
        complements=("Tents",),
    ),
    Leaf(
        category="Sports > Camping > Camping Gear",
        brands="sport",
        types=(
            "camping stove/backpacking stove, headlamp/head torch, camping chair/folding chair, cooler/ice chest, "
            "flashlight/torch"
        ),
        colours="garden",
        materials="aluminum/aluminium, stainless steel, plastic, polyester",
        styles="rechargeable/battery powered, portable/travel, waterproof/water resistant, with cup holder, heavy duty",
        sizes="small/mini, medium, large/family size",
        uses="family camping, power cuts, fishing trips",
        complements=("Tents", "Sleeping Bags"),
    ),
    Leaf(
        category="Sports > Cycling > Bicycles",
        brands="sport",
        types=(
            "mountain bike/mtb, road bike/racing bicycle, city bike/commuter bicycle, electric bike/e-bike, "
            "kids bike/children's bicycle"
        ),
        colours="sport",
        materials="aluminum/aluminium, steel, carbon fiber/carbon fibre",
        styles="folding/foldable, 21 speed, full suspension, disc brake, step through",
        sizes="26 inch, 27.5 inch, 29 inch, 20 inch",
        uses="daily commutes, forest trails, first rides",
        complements=("Bike Helmets", "Bike Locks"),
    ),
    Leaf(
        category="Sports > Cycling > Bike Helmets",
        brands="sport",
        types=(
            "bike helmet/cycling helmet, skate helmet/scooter helmet, bike gloves/cycling gloves, knee pads/elbow pads"
        ),
        colours="sport",
        materials="polycarbonate, foam/eva foam, abs plastic",
        styles="adjustable/dial fit, ventilated/breathable, with light/led, with visor, aerodynamic",
        sizes="medium, large, small, kids size/children's",
        uses="daily commutes, skate parks, first rides",
        complements=("Bicycles",),
    ),
    Leaf(
        category="Sports > Cycling > Bike Locks",
        brands="sport",
        types=(
            "bike lock/bicycle lock, bike light/cycling light, bike pump/tire inflator, bike rack/bicycle carrier, "
            "saddle bag"
        ),
        colours="tools",
        materials="hardened steel, aluminum/aluminium, rubber, nylon",
        styles=(
            "heavy duty, rechargeable/battery powered, combination/keyless, portable/mini, waterproof/water resistant"
        ),
        sizes="small, medium, large",
        uses="city racks, night rides, long tours",
        complements=("Bicycles",),
    ),
    Leaf(
        category="Travel > Luggage > Suitcases",
        brands="fashion",
        types="suitcase/luggage/rolling case, carry on/cabin bag, duffel bag/holdall, garment bag/suit carrier",
        colours="tech",
        materials="polycarbonate, nylon, canvas, aluminum/aluminium",
        styles="hard shell/hardside, expandable, lightweight/ultralight, with spinner wheels/4 wheel, with tsa lock",
        sizes="20 inch, 24 inch, 28 inch",
        uses="weekend trips, long flights, business trips",
        complements=("Travel Accessories", "Backpacks"),
    ),
    Leaf(
        category="Travel > Luggage > Backpacks",
        brands="sport",
        types="backpack/rucksack, school backpack/book bag, hiking backpack/trekking rucksack, sling bag/chest bag",
        colours="fashion",
        materials="nylon, polyester, canvas, leather/genuine leather",
        styles="waterproof/water resistant, anti theft, roll top, with laptop compartment, lightweight/packable",
        sizes="20 liter/20l, 30 liter/30l, 45 liter/45l",
        uses="school days, mountain nights, wet commutes",
        complements=("Water Bottles", "Travel Accessories"),
    ),
    Leaf(
        category="Travel > Luggage > Travel Accessories",
        brands="fashion",
        types=(
            "packing cubes/luggage organizer, toiletry bag/wash bag, luggage tags/bag tags, "
            "travel adapter/plug adapter, eye mask/sleep mask"
        ),
        colours="fashion",
        materials="nylon, polyester, silicone, leather/genuine leather",
        styles="hanging, compact/packable, waterproof/water resistant, universal/worldwide",
        sizes="set of 2, set of 4, set of 6/6 piece",
        uses="long flights, weekend trips, tidy minds",
        complements=("Suitcases",),
    ),
)
