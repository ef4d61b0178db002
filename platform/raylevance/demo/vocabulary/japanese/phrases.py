"""How merchants write and how customers ask in Japanese: templates over a product's words, without spaces."""

TIERS = ("お手頃", "スタンダード", "プレミアム")

TITLES = (
    (0.20, "{brand}{type}「{line}」{style}・{material}・{colour}"),
    (0.16, "【{brand}】{type}／{style}／{material}／{size}／{colour}"),
    (0.14, "{material}の{type}・{style}【{brand}】（{size}、{colour}）"),
    (0.12, "{colour}の{material}{type}｜{brand}「{line}」"),
    (0.12, "{brand}の{type}・{size}・{colour}"),
    (0.10, "{brand}「{line}」{type}"),
    (0.10, "{brand}の{colour}{type}・{style}・{size}・{material}・{use}に最適"),
    (0.06, "{type}・{synonym}・{material}・{style}・{size}・{use}にも・プレゼントに・{brand}「{line}」"),
)

DESCRIPTIONS = (
    (
        0.30,
        "{brand}の「{line}」シリーズ。{colour}の{type}で、素材は{material}。特長：{style}。{use}におすすめです。",
    ),
    (0.25, "{use}に最適です。{brand}の{type}：{material}、{style}、{colour}仕上げ。サイズ：{size}。"),
    (0.25, "{use}に使うものをお探しですか。{brand}の「{line}」は{colour}の{material}を使った{tier}クラスの商品です。"),
    (0.20, "{brand}「{line}」{type}。{style}、{size}。{tier}クラスの「{leaf}」コレクションです。"),
)

BULLETS = (
    (0.35, "素材：{material}\n色：{colour}\nサイズ：{size}\n{use}に"),
    (0.35, "{style}\n{material}を使用\n{size}\n30日間返品可能"),
    (0.30, "ブランド：{brand}\nスタイル：{style}\n{use}におすすめ\n1年保証"),
)

NEED_FRAMES = ("{}", "{}おすすめ", "{}人気", "{}アイデア")

LONG_TAIL_FRAMES = ("{}", "おすすめの{}", "人気の{}", "{}通販", "品質の良い{}", "安い{}")

PHRASINGS = (
    (
        ("brand", "{}の"),
        ("size", "{}の"),
        ("style", "{}の"),
        ("colour", "{}の"),
        ("material", "{}の"),
        ("type", "{}"),
    ),
    (
        ("brand", "{}"),
        ("colour", "{}"),
        ("style", "{}"),
        ("material", "{}"),
        ("type", "{}"),
        ("size", "{}"),
    ),
)
"""Joined by の, or run together into one compound."""
