"""Words of texts, also of those written without spaces between them."""

import re
import unicodedata

_MARKS = [code for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M")]
LETTER = rf"[\w{''.join(map(chr, _MARKS))}]"
"""A letter, a digit, or a mark that combines with one: Hindi's and Thai's vowels, accents that stand apart."""

WORD = re.compile(rf"{LETTER}+")
HAN, HIRAGANA, KATAKANA = "々〆㐀-䶿一-鿿豈-\ufaff", "ぁ-ゖゝ-ゟ", "ァ-ヺー-ヿｦ-ﾟ"
UNSPACED = re.compile(f"[{HAN}{HIRAGANA}{KATAKANA}]+")
PIECE = re.compile(f"[{HAN}]{{1,2}}[{HIRAGANA}]*|[{HIRAGANA}]+|[{KATAKANA}]+")


def spaced(text: str) -> str:
    """`text` (in Unicode's composed form) with each run of Han characters and kana as its overlapping pairs, spaced.

    Pairs of characters find Chinese and Japanese words without a dictionary, as in Lucene's CJKBigramFilter.
    """
    return UNSPACED.sub(_pairs, unicodedata.normalize("NFC", text))


def words(text: str) -> list[str]:
    """The words of `text` in its order: runs of letters and digits, and the pairs of `spaced`."""
    return WORD.findall(spaced(text))


def in_pieces(text: str) -> str:
    """`text`, composed, with spaces where a run of Han characters and kana changes its script.

    Such a piece is near a word (our choice): katakana, hiragana, or two Han characters at most with the hiragana
    after them.
    """
    return UNSPACED.sub(lambda run: f" {' '.join(PIECE.findall(run[0]))} ", unicodedata.normalize("NFC", text))


def _pairs(run: re.Match[str]) -> str:
    characters = run[0]
    pairs = [characters[place : place + 2] for place in range(max(1, len(characters) - 1))]
    return f" {' '.join(pairs)} "
