"""Pets, babies and toys."""

from raylevance.demo.vocabulary.leaf import Leaf

LEAVES = (
    Leaf(
        category="Pets > Dogs > Dog Beds",
        brands="pet",
        types="dog bed/pet bed/puppy bed, dog crate/dog kennel, dog sofa/pet couch",
        colours="textile",
        materials="memory foam, faux fur, cotton canvas, fleece",
        styles="orthopedic/orthopaedic, washable/machine washable, waterproof/chew proof, calming/donut",
        sizes="small, medium, large, x-large/extra large",
        uses="senior dogs, new puppies, road trips",
        complements=("Dog Leashes", "Dog Bowls"),
    ),
    Leaf(
        category="Pets > Dogs > Dog Leashes",
        brands="pet",
        types="dog leash/dog lead, dog harness/no pull vest, dog collar, dog coat/dog jacket",
        colours="bright",
        materials="nylon, leather/genuine leather, rope, biothane",
        styles="retractable/extendable, reflective/high visibility, adjustable/one size fits all, padded",
        sizes="small, medium, large, x-large/extra large",
        uses="night walks, strong pullers, new puppies",
        complements=("Dog Bowls", "Dog Toys"),
    ),
    Leaf(
        category="Pets > Dogs > Dog Bowls",
        brands="pet",
        types=(
            "dog bowl/pet dish, slow feeder/puzzle feeder, pet water fountain/drinking fountain, "
            "automatic feeder/food dispenser"
        ),
        colours="bright",
        materials="stainless steel, ceramic, silicone, plastic/bpa free plastic",
        styles="non-slip/anti-skid, elevated/raised, collapsible/travel, dishwasher safe",
        sizes="1 cup, 3 cup, 6 cup",
        uses="fast eaters, senior dogs, busy owners",
        complements=("Dog Beds",),
    ),
    Leaf(
        category="Pets > Dogs > Dog Toys",
        brands="pet",
        types="chew toy/teething toy, dog ball/fetch ball, squeaky toy/plush dog toy, rope toy/tug toy",
        colours="bright",
        materials="natural rubber, plush, cotton rope, nylon",
        styles="indestructible/tough, interactive/puzzle, floating, squeaky/noisy",
        sizes="small, medium, large",
        uses="bored puppies, aggressive chewers, beach days",
        complements=("Dog Leashes",),
    ),
    Leaf(
        category="Pets > Cats > Cat Trees",
        brands="pet",
        types="cat tree/cat tower/cat condo, scratching post/cat scratcher, cat perch/window hammock",
        colours="furniture",
        materials="sisal, plush, wood, cardboard",
        styles="tall/multi level, space saving/compact, sturdy/heavy duty, modern/contemporary",
        sizes="32 inch, 48 inch, 60 inch",
        uses="indoor cats, small apartments, sofa savers",
        complements=("Cat Litter Boxes",),
    ),
    Leaf(
        category="Pets > Cats > Cat Litter Boxes",
        brands="pet",
        types=(
            "litter box/litter tray, litter mat/litter trapping mat, cat carrier/pet carrier, "
            "litter scoop/litter shovel"
        ),
        colours="furniture",
        materials="plastic, stainless steel, eva foam/foam, wood",
        styles="covered/enclosed, self cleaning/automatic, odor control/odour free, top entry, portable/foldable",
        sizes="medium, large, x-large/extra large",
        uses="indoor cats, vet visits, small apartments",
        complements=("Cat Trees",),
    ),
    Leaf(
        category="Pets > Fish > Aquariums",
        brands="pet",
        types=(
            "aquarium/fish tank, aquarium filter/fish tank filter, aquarium light/fish tank light, "
            "aquarium heater/tank heater"
        ),
        colours="furniture",
        materials="glass, acrylic, plastic",
        styles="submersible/underwater, quiet/silent, self cleaning/automatic, with lid/covered, led/low energy",
        sizes="5 gallon, 10 gallon, 20 gallon, 40 gallon",
        uses="betta fish, first fish keepers, desktop reefs",
        complements=(),
    ),
    Leaf(
        category="Baby > On The Go > Strollers",
        brands="family",
        types=(
            "stroller/pushchair/buggy, double stroller/twin buggy, pram/baby carriage, jogging stroller/running buggy"
        ),
        colours="fashion",
        materials="aluminum/aluminium, steel, polyester",
        styles=(
            "foldable/compact fold, lightweight/travel, with bassinet/with carrycot, all terrain, reversible/two way"
        ),
        sizes="infant/newborn, toddler, up to 50 lb",
        uses="city walks, air travel, forest trails",
        complements=("Car Seats", "Diaper Bags"),
    ),
    Leaf(
        category="Baby > On The Go > Car Seats",
        brands="family",
        types="car seat/child seat, booster seat/seat raiser, baby carrier/baby sling, car seat base",
        colours="fashion",
        materials="polyester, plastic, merino wool, cotton",
        styles=(
            "rear facing, convertible/all in one, washable/machine washable, side impact/reinforced, "
            "swivel/360 rotating"
        ),
        sizes="infant/newborn, toddler, 4-12 years",
        uses="road trips, school runs, newborns",
        complements=("Strollers",),
    ),
    Leaf(
        category="Baby > On The Go > Diaper Bags",
        brands="family",
        types=(
            "diaper bag/nappy bag, changing mat/changing pad, stroller organizer/pram caddy, "
            "baby bottle bag/bottle cooler"
        ),
        colours="fashion",
        materials="polyester, faux leather/vegan leather, canvas, nylon",
        styles="backpack style, waterproof/wipe clean, insulated/thermal, with stroller straps",
        sizes="small/compact, medium, large/big",
        uses="new parents, day trips, air travel",
        complements=("Strollers",),
    ),
    Leaf(
        category="Baby > Nursery > Cribs",
        brands="family",
        types="baby crib/cot, bassinet/moses basket, playpen/play yard, toddler bed",
        colours="furniture",
        materials="pine, beech, mesh, metal",
        styles="convertible/4 in 1, with mattress/mattress included, portable/foldable, with wheels/rolling",
        sizes="mini, standard, large/full size",
        uses="newborns, grandparents, small nurseries",
        complements=("Baby Monitors", "Nursery Textiles"),
    ),
    Leaf(
        category="Baby > Nursery > Nursery Textiles",
        brands="family",
        types=(
            "crib sheet/fitted cot sheet, swaddle/baby wrap, baby blanket/receiving blanket, "
            "sleep sack/wearable blanket, burp cloth/muslin"
        ),
        colours="textile",
        materials="organic cotton, cotton, bamboo viscose/rayon, fleece",
        styles="animal print/woodland, breathable/lightweight, striped, star print, extra soft/super soft",
        sizes="0-3 months/newborn, 3-6 months, 6-12 months",
        uses="newborns, sensitive skin, baby showers",
        complements=("Cribs",),
    ),
    Leaf(
        category="Baby > Nursery > Baby Monitors",
        brands="family",
        types=(
            "baby monitor/baby cam, white noise machine/sleep soother, night light/nursery lamp, "
            "baby humidifier/cool mist humidifier"
        ),
        colours="tech",
        materials="plastic, silicone, fabric",
        styles="with camera/video, rechargeable/battery powered, wifi/app controlled, portable/travel, quiet/silent",
        sizes="small/mini, medium, large",
        uses="new parents, light sleepers, air travel",
        complements=("Cribs",),
    ),
    Leaf(
        category="Toys > Play > Building Toys",
        brands="family",
        types=(
            "building blocks/building bricks, magnetic tiles/magnet blocks, train set/toy railway, "
            "marble run/marble maze"
        ),
        colours="bright",
        materials="plastic, wood, foam/eva foam",
        styles="educational/stem, glow in the dark/luminous, beginner/starter, remote control/motorized",
        sizes="50 piece/50pc, 100 piece/100pc, 300 piece/300pc",
        uses="rainy afternoons, curious minds, birthday gifts",
        complements=("Toy Storage",),
    ),
    Leaf(
        category="Toys > Play > Toy Storage",
        brands="family",
        types=(
            "toy box/toy chest, toy storage bins/cube organizer, play mat storage bag/toy clean-up bag, kids bookshelf"
        ),
        colours="bright",
        materials="fabric, wood, plastic, felt",
        styles="collapsible/foldable, with lid, stackable, animal print/woodland",
        sizes="small, medium, large",
        uses="tidy playrooms, small bedrooms, rainy afternoons",
        complements=("Building Toys", "Dolls"),
    ),
    Leaf(
        category="Toys > Play > Dolls",
        brands="family",
        types=(
            "doll/baby doll, dollhouse/doll's house, stuffed animal/plush toy/soft toy, action figure/toy figure, "
            "teddy bear"
        ),
        colours="bright",
        materials="plush, vinyl/pvc, wood, cotton",
        styles="washable/machine washable, talking/with sound, weighted/heavy, handmade/handcrafted",
        sizes="8 inch, 12 inch, 18 inch",
        uses="bedtime stories, birthday gifts, pretend play",
        complements=("Toy Storage",),
    ),
    Leaf(
        category="Toys > Games > Board Games",
        brands="family",
        types=(
            "board game/family game, card game/playing cards, chess set/chess board, jigsaw puzzle/jigsaw, "
            "dominoes/tile game"
        ),
        colours="bright",
        materials="cardboard, wood, plastic, recycled paper",
        styles="cooperative/co-op, strategy, travel/portable, educational/stem, party",
        sizes="2 player, 2-4 players, 4-8 players",
        uses="family evenings, rainy afternoons, christmas gifts",
        complements=(),
    ),
    Leaf(
        category="Toys > Outdoor > Ride-Ons",
        brands="family",
        types=(
            "kick scooter/push scooter, balance bike/toddler bike, roller skates/inline skates, "
            "trampoline/rebounder, swing set/garden swing"
        ),
        colours="bright",
        materials="aluminum/aluminium, steel, plastic, wood",
        styles="adjustable/height adjustable, foldable, with light up wheels/led, with safety net, indoor and outdoor",
        sizes="2-4 years, 4-7 years, 8-12 years",
        uses="birthday gifts, sunny gardens, first rides",
        complements=("Bike Helmets",),
    ),
)
