"""Electronics."""

from raylevance.demo.vocabulary.leaf import Leaf

LEAVES = (
    Leaf(
        category="Electronics > Phones > Smartphones",
        brands="phone",
        types="smartphone/mobile phone/cell phone, rugged phone/outdoor phone, flip phone/senior phone",
        colours="tech",
        materials="glass, aluminum/aluminium, plastic",
        styles="5g, dual sim, long battery/long lasting, unlocked/sim free, large screen/big display",
        sizes="128 gb/128gb, 256 gb/256gb, 64 gb/64gb, 512 gb/512gb",
        uses="photo lovers, grandparents, building sites",
        complements=("Phone Cases", "Chargers", "Screen Protectors"),
    ),
    Leaf(
        category="Electronics > Phones > Phone Cases",
        brands="phone",
        types="phone case/phone cover/phone shell, wallet case/flip cover, phone pouch/dry bag for phone",
        colours="tech",
        materials="silicone, tpu/rubber, faux leather/vegan leather, polycarbonate",
        styles="shockproof/drop proof, slim/thin, clear/transparent, magnetic/magsafe, with ring/with kickstand",
        sizes="6.1 inch, 6.7 inch, 5.8 inch",
        uses="clumsy hands, building sites, beach holidays",
        complements=("Smartphones", "Screen Protectors"),
    ),
    Leaf(
        category="Electronics > Phones > Chargers",
        brands="phone",
        types=(
            "phone charger/wall charger, power bank/portable charger/battery pack, wireless charger/charging pad, "
            "car charger"
        ),
        colours="tech",
        materials="plastic, aluminum/aluminium, nylon braided",
        styles="fast charging/quick charge, usb c/type c, foldable, 2 port/dual port, magnetic/magsafe",
        sizes="20 watt/20w, 45 watt/45w, 65 watt/65w, 10000 mah/10000mah",
        uses="long flights, festival weekends, bedside tables",
        complements=("Smartphones", "Earbuds"),
    ),
    Leaf(
        category="Electronics > Phones > Screen Protectors",
        brands="phone",
        types="screen protector/screen guard, camera lens protector/lens guard, privacy screen/anti-spy film",
        colours="tech",
        materials="tempered glass, hydrogel/soft film, plastic",
        styles="anti glare/matte, scratch resistant/scratch proof, bubble free, full cover",
        sizes="6.1 inch, 6.7 inch, 5.8 inch",
        uses="clumsy hands, bright offices, new phones",
        complements=("Smartphones", "Phone Cases"),
    ),
    Leaf(
        category="Electronics > Audio > Headphones",
        brands="tech",
        types="headphones/over ear headset, gaming headset/headset with mic, on ear headphones, kids headphones",
        colours="tech",
        materials="plastic, aluminum/aluminium, faux leather/vegan leather",
        styles="noise cancelling/noise canceling/anc, wireless/bluetooth, foldable, wired/with cable, surround sound",
        sizes="20 hour/20h, 40 hour/40h, 60 hour/60h",
        uses="long flights, open offices, late night gaming",
        complements=("Microphones", "Smartphones"),
    ),
    Leaf(
        category="Electronics > Audio > Earbuds",
        brands="tech",
        types="earbuds/in ear headphones/earphones, sport earbuds/running earphones, sleep earbuds/sleeping earphones",
        colours="tech",
        materials="plastic, silicone, metal",
        styles=(
            "wireless/bluetooth, noise cancelling/noise canceling/anc, waterproof/sweatproof, with mic/with microphone"
        ),
        sizes="6 hour/6h, 8 hour/8h, 10 hour/10h",
        uses="morning runs, noisy trains, side sleepers",
        complements=("Chargers", "Smartphones"),
    ),
    Leaf(
        category="Electronics > Audio > Speakers",
        brands="tech",
        types=(
            "bluetooth speaker/portable speaker, soundbar/tv speaker, bookshelf speakers, smart speaker/voice assistant"
        ),
        colours="tech",
        materials="plastic, wood, fabric, aluminum/aluminium",
        styles=(
            "waterproof/water resistant, bass boost/deep bass, rechargeable/battery powered, stereo, with lights/led"
        ),
        sizes="10 watt/10w, 30 watt/30w, 60 watt/60w",
        uses="pool parties, movie nights, small apartments",
        complements=("Televisions", "Smartphones"),
    ),
    Leaf(
        category="Electronics > Audio > Microphones",
        brands="tech",
        types=(
            "usb microphone/podcast mic, lavalier microphone/lapel mic, condenser microphone/studio mic, "
            "mic stand/boom arm"
        ),
        colours="tech",
        materials="metal, plastic, aluminum/aluminium",
        styles="plug and play, wireless/bluetooth, noise reduction, with tripod/with stand",
        sizes="mini, standard, full size",
        uses="podcasters, video calls, singers",
        complements=("Headphones",),
    ),
    Leaf(
        category="Electronics > Computers > Laptops",
        brands="tech",
        types=(
            "laptop/notebook computer, chromebook/cloud laptop, gaming laptop/gaming notebook, "
            "2-in-1 laptop/convertible laptop"
        ),
        colours="tech",
        materials="aluminum/aluminium, plastic, magnesium alloy",
        styles="lightweight/ultrathin, touchscreen, long battery/long lasting, backlit/lighted keyboard",
        sizes="14 inch, 15.6 inch, 13.3 inch, 17 inch",
        uses="students, video editors, business trips",
        complements=("Laptop Bags", "Computer Mice", "Monitors"),
    ),
    Leaf(
        category="Electronics > Computers > Laptop Bags",
        brands="tech",
        types="laptop sleeve/laptop pouch, laptop backpack/computer backpack, laptop briefcase/messenger bag",
        colours="leather",
        materials="neoprene, nylon, leather/genuine leather, polyester",
        styles="waterproof/water resistant, shockproof/padded, with usb port, slim/thin",
        sizes="13 inch/13 in, 14 inch/14 in, 15.6 inch/15.6 in, 17 inch/17 in",
        uses="wet commutes, students, business trips",
        complements=("Laptops",),
    ),
    Leaf(
        category="Electronics > Computers > Keyboards",
        brands="tech",
        types=(
            "computer keyboard/pc keyboard, mechanical keyboard/gaming keyboard, tablet keyboard, "
            "number pad/numeric keypad"
        ),
        colours="tech",
        materials="plastic, aluminum/aluminium, bamboo",
        styles="wireless/bluetooth, backlit/rgb, ergonomic/split, quiet/silent, compact/tenkeyless",
        sizes="60 percent/60%, 75 percent/75%, full size",
        uses="open offices, late night gaming, sore wrists",
        complements=("Computer Mice", "Monitors"),
    ),
    Leaf(
        category="Electronics > Computers > Computer Mice",
        brands="tech",
        types="computer mouse/pc mouse, gaming mouse, trackball/trackball mouse, mouse pad/mouse mat",
        colours="tech",
        materials="plastic, aluminum/aluminium, rubber",
        styles="wireless/bluetooth, ergonomic/vertical, quiet/silent, rechargeable/battery powered, left handed",
        sizes="small/travel size, medium, large/extended",
        uses="sore wrists, open offices, late night gaming",
        complements=("Keyboards", "Laptops"),
    ),
    Leaf(
        category="Electronics > Computers > Monitors",
        brands="tech",
        types=(
            "monitor/computer display/pc screen, portable monitor/travel display, ultrawide monitor/widescreen display"
        ),
        colours="tech",
        materials="plastic, metal, aluminum/aluminium",
        styles="4k/ultra hd, curved, 144hz/high refresh rate, frameless/thin bezel, with speakers/built-in speakers",
        sizes="24 inch, 27 inch, 32 inch, 34 inch",
        uses="home offices, video editors, late night gaming",
        complements=("Monitor Mounts", "Keyboards"),
    ),
    Leaf(
        category="Electronics > Computers > Monitor Mounts",
        brands="tech",
        types=(
            "monitor arm/monitor mount, monitor stand/monitor riser, laptop stand/notebook riser, "
            "tv mount/tv wall bracket"
        ),
        colours="furniture",
        materials="steel, aluminum/aluminium, bamboo",
        styles="adjustable/height adjustable, full motion/swivel, dual/double, clamp on",
        sizes="up to 27 inch, up to 32 inch, up to 65 inch",
        uses="home offices, small desks, sore necks",
        complements=("Monitors", "Televisions"),
    ),
    Leaf(
        category="Electronics > Television > Televisions",
        brands="tech",
        types="television/tv set, smart tv/internet tv, projector/video beamer, streaming stick/media player",
        colours="tech",
        materials="plastic, metal, glass",
        styles="4k/ultra hd, oled, wall mountable, with voice remote/voice controlled, portable/mini",
        sizes="43 inch, 55 inch, 65 inch, 32 inch",
        uses="movie nights, dorm rooms, sports fans",
        complements=("Monitor Mounts", "Speakers"),
    ),
    Leaf(
        category="Electronics > Cameras > Cameras",
        brands="tech",
        types=(
            "digital camera/point and shoot, action camera/sports cam, instant camera/instant print camera, "
            "dash cam/car camera"
        ),
        colours="tech",
        materials="plastic, metal, magnesium alloy",
        styles="waterproof/underwater, 4k/ultra hd, with flip screen/selfie screen, image stabilization/anti shake",
        sizes="16 megapixel/16mp, 24 megapixel/24mp, 48 megapixel/48mp",
        uses="first vlogs, family holidays, mountain bikers",
        complements=("Tripods",),
    ),
    Leaf(
        category="Electronics > Cameras > Tripods",
        brands="tech",
        types="tripod/camera stand, selfie stick/phone tripod, ring light/selfie light, camera bag/camera case",
        colours="tech",
        materials="aluminum/aluminium, carbon fiber/carbon fibre, plastic, nylon",
        styles="foldable, flexible/bendable, with remote/bluetooth remote, lightweight/portable",
        sizes="50 inch, 60 inch, 70 inch",
        uses="first vlogs, family portraits, night skies",
        complements=("Cameras", "Smartphones"),
    ),
)
