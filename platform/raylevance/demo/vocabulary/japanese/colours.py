"""Colours in Japanese, by their first English form, each with its synonyms."""

COLOURS = {
    "grey": "グレー/灰色", "white": "ホワイト/白", "beige": "ベージュ", "navy": "ネイビー/紺",
    "cream": "アイボリー/クリーム色", "teal": "ターコイズ/青緑", "sage": "セージグリーン/くすみグリーン",
    "pink": "ピンク/桃色", "burgundy": "ワインレッド/えんじ色", "black": "ブラック/黒", "yellow": "イエロー/黄色",
    "green": "グリーン/緑", "natural": "ナチュラル", "walnut brown": "ウォールナット/こげ茶",
    "espresso": "エスプレッソ/ダークブラウン", "whitewashed": "ホワイトウォッシュ/白木", "silver": "シルバー/銀色",
    "red": "レッド/赤", "copper": "カッパー/銅色", "blue": "ブルー/青", "olive": "オリーブ/カーキ",
    "tan": "キャメル/黄褐色", "purple": "パープル/紫", "orange": "オレンジ/橙色",
    "neon yellow": "ネオンイエロー/蛍光イエロー", "brown": "ブラウン/茶色", "cognac": "コニャック/キャラメル",
    "space grey": "スペースグレー/グラファイト", "rose gold": "ローズゴールド", "multicolour": "マルチカラー/虹色",
    "terracotta": "テラコッタ/レンガ色",
}  # fmt: skip
