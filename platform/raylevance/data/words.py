"""Words of texts, also of those written without spaces between them."""

import re

WORD = re.compile(r"\w+")
UNSPACED = re.compile("[々〆ぁ-ゖゝ-ゟァ-ヺー-ヿ㐀-䶿一-鿿豈-\ufaffｦ-ﾟ]+")
"""Runs of Han characters and kana."""


def spaced(text: str) -> str:
    """`text` with each run of Han characters and kana as its overlapping pairs, between spaces; others stay.

    Pairs of characters find Chinese and Japanese words without a dictionary, as in Lucene's CJKBigramFilter.
    """
    return UNSPACED.sub(_pairs, text)


def words(text: str) -> list[str]:
    """The words of `text` in its order: runs of letters and digits, and the pairs of `spaced`."""
    return WORD.findall(spaced(text))


def _pairs(run: re.Match[str]) -> str:
    characters = run[0]
    pairs = [characters[place : place + 2] for place in range(max(1, len(characters) - 1))]
    return f" {' '.join(pairs)} "
