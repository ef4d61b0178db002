"""The upper levels of the category paths in Japanese."""

LEVELS = {
    "Home": "家具・インテリア", "Kitchen": "キッチン", "Fashion": "ファッション", "Electronics": "家電・パソコン",
    "Office": "オフィス", "Music": "音楽", "Sports": "スポーツ", "Travel": "旅行", "Garden": "ガーデン",
    "Tools": "DIY・工具", "Pets": "ペット", "Baby": "ベビー", "Toys": "おもちゃ", "Living Room": "リビング",
    "Lighting": "照明", "Bedroom": "寝室", "Bath": "バス用品", "Appliances": "キッチン家電", "Cookware": "調理用品",
    "Tableware": "テーブルウェア", "Women": "レディース", "Men": "メンズ", "Shoes": "シューズ", "Accessories": "小物",
    "Phones": "スマホ・携帯", "Audio": "オーディオ", "Computers": "パソコン", "Television": "映像",
    "Cameras": "カメラ・写真", "Furniture": "家具", "Stationery": "文房具", "Instruments": "楽器",
    "Fitness": "フィットネス", "Camping": "キャンプ", "Cycling": "サイクリング", "Luggage": "旅行かばん",
    "Watering": "水やり", "Growing": "栽培", "Patio": "テラス", "Power Tools": "電動", "Hand Tools": "手工具",
    "Dogs": "犬用品", "Cats": "猫用品", "Fish": "観賞魚", "On The Go": "お出かけ", "Nursery": "ベビールーム",
    "Play": "遊び", "Games": "ゲーム", "Outdoor": "外遊び",
}  # fmt: skip
