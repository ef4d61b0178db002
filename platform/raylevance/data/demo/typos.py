"""Misspelling: one slip of the fingers, the kinds of Damerau 1964: swap, drop, double, or the key beside."""

NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "xs",
}  # fmt: skip
"""Keys beside each letter on a QWERTY keyboard."""


def misspell(text: str, bits: int) -> str:
    """`text` with one slip, chosen by 64 random `bits`, in a word of four letters or more; unchanged without one."""
    places = [
        place
        for place in range(1, len(text) - 1)
        if text[place].isalpha() and len(_word_at(text, place)) >= 4 and text[place - 1].isalpha()
    ]
    if not places:
        return text
    place = places[bits % len(places)]
    slips = [slip for slip in _slips(text, place) if slip != text]
    return slips[(bits >> 32) % len(slips)]


def _slips(text: str, place: int) -> list[str]:
    before, letter, after = text[:place], text[place], text[place + 1 :]
    swapped = before[:-1] + letter + before[-1] + after
    beside = [before + key + after for key in NEIGHBOURS.get(letter, "")]
    return [swapped, before + after, before + letter + letter + after, *beside]


def _word_at(text: str, place: int) -> str:
    return text[: place + 1].rpartition(" ")[2] + text[place + 1 :].partition(" ")[0]
