"""Split texts into words, also in languages that put no spaces between words."""

import re
import unicodedata

from raylevance.data.normal_form import normal_form

_MARKS = [code for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M")]
LETTER = rf"[\w{''.join(map(chr, _MARKS))}]"
"""A pattern of a letter, a digit, or a combining mark, such as the vowels of Hindi and Thai and separate accents."""

WORD = re.compile(rf"{LETTER}+")
HAN, HIRAGANA, KATAKANA = "々〆㐀-䶿一-鿿豈-\ufaff", "ぁ-ゖゝ-ゟ", "ァ-ヺー-ヿｦ-ﾟ"
UNSPACED = re.compile(f"[{HAN}{HIRAGANA}{KATAKANA}]+")
PIECE = re.compile(f"[{HAN}]{{1,2}}[{HIRAGANA}]*|[{HIRAGANA}]+|[{KATAKANA}]+")


def with_character_pairs(text: str) -> str:
    """Return `text` with each run of Han characters and kana replaced by its overlapping pairs, between spaces.

    With pairs of characters, Chinese and Japanese words are found without a dictionary, as in Lucene's CJKBigramFilter.
    The result is in Unicode's composed form (NFC).
    """
    return UNSPACED.sub(_pairs, unicodedata.normalize("NFC", text))


def words(text: str) -> list[str]:
    """Return the words of the `normal_form` of `text`: runs of letters and digits, and pairs of characters."""
    return WORD.findall(with_character_pairs(normal_form(text)))


def split_by_script(text: str) -> str:
    """Return `text` with spaces inserted where a run of Han characters and kana changes its script.

    A piece between spaces is roughly a word (our choice): a run of katakana, a run of hiragana, or one or two Han
    characters with the hiragana after them. The result is in Unicode's composed form (NFC).
    """
    return UNSPACED.sub(lambda run: f" {' '.join(PIECE.findall(run[0]))} ", unicodedata.normalize("NFC", text))


def _pairs(run: re.Match[str]) -> str:
    characters = run[0]
    pairs = [characters[start : start + 2] for start in range(max(1, len(characters) - 1))]
    return f" {' '.join(pairs)} "
