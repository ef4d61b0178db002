"""The words that a query excludes, and those that a title says a product lacks: "lamp without cord". English only."""

import re
from collections.abc import Iterable, Iterator, Sequence

import Stemmer
from bm25s.stopwords import STOPWORDS_EN_PLUS

from raylevance.data.normal_form import normal_form, without_accents
from raylevance.data.words import WORD, with_character_pairs

NEGATIONS = frozenset({"without", "no", "not", "non"})
ENDS = frozenset({"with", "for", "in", "on", "from", "but"})
"""Words that end a negation, as punctuation does."""
SKIPPED = frozenset(STOPWORDS_EN_PLUS) - NEGATIONS - ENDS
"""Words that are neither negated nor asserted, as those of one letter ("women's")."""
EXCLUDED_WORDS, NEGATED_WORDS = 1, 3
"""The most words that a negation negates in a query and in a title (docs/decisions/0018-hybrid.md). What follows the
first word in a query may be wanted ("non stick pan")."""
FREE_THINGS = frozenset({"shipping", "delivery", "returns"})
"""Words after "free" that cost nothing, so that the word before is not negated: "lamp with cord free shipping"."""
LEAST_STEM = 3
"""The fewest letters after "non" and before "less" in a word that negates them."""

CLAUSE_END = re.compile(r"[.,;:|!?()\[\]]|\s[-–—]\s")
SPELLINGS = (
    (re.compile(r"\bw/o(?:ut)?\b|\bfree (?:of|from)\b"), "without"),
    (re.compile(r"\bw/"), "with "),
)
"""Other ways to write "without" and "with"."""
TITLE_SPELLINGS = (
    *SPELLINGS,
    (re.compile(r"\bzero\b"), "without"),
    (re.compile(r"\b(\w+)(?: ?& ?| and | ?/ ?)(\w+)[- ]free\b"), r"\1 free, \2 free"),
)
"""What a title says more: "zero sugar", which in a query is as often a brand, and "sulfate & paraben free"."""


def excluded_stems(query: str) -> frozenset[str]:
    """Return the stems, as `word_stem` has them, that a query does not want.

    These are the word after each "without", "w/o", "free of", "free from", "no", "not" or "non", but for stop words and
    letters. A stem that the query also asks for is not among them ("box for silverware without silverware"), nor is a
    number or a model number ("part no DA29").
    """
    asserted, negated, stems = set[str](), set[str](), _Stems()
    for clause in _clauses(query, SPELLINGS):
        for word, place in _marked(clause, EXCLUDED_WORDS):
            (negated if place else asserted).add(stems[word])
    return frozenset(negated - asserted)


def exclusions(excluded: frozenset[str], titles: Sequence[str]) -> list[float]:
    """Return for each title the share of the stems `excluded` that it asserts, less the share that it negates.

    A title negates up to `NEGATED_WORDS` words after a negation, up to a preposition or punctuation, and also the word
    before "free" and the rest of words that begin with "non" or end in "less" ("sugar-free", "nonstick", "cordless"). A
    stem that it both asserts and negates counts as negated. A share is between -1 and 1, and 0 without stems. Source:
    our choice, like the marks of negated words in sentiment analysis (Pang, Lee and Vaithyanathan 2002).
    """
    stems, shares = _Stems(), []
    for title in titles:
        asserted, negated = set[str](), set[str]()
        for clause in _clauses(title, TITLE_SPELLINGS) if excluded else ():
            for word, is_negated in _with_affixes(list(_marked(clause, NEGATED_WORDS))):
                if (stem := stems[word]) in excluded:
                    (negated if is_negated else asserted).add(stem)
        shares.append((len(asserted - negated) - len(negated)) / max(len(excluded), 1))
    return shares


def word_stem(word: str) -> str:
    """Return the stem of a word by Snowball's English stemmer, without accents."""
    return _Stems()[_plain(word)]


class _Stems(dict[str, str]):
    """The stem of each word, made when it is first asked for. Threads cannot share a PyStemmer stemmer."""

    def __init__(self) -> None:
        super().__init__()
        self._stemmer = Stemmer.Stemmer("english")

    def __missing__(self, word: str) -> str:
        stem: str = self._stemmer.stemWord(word)
        return self.setdefault(word, stem)


def _plain(text: str) -> str:
    return without_accents(with_character_pairs(normal_form(text)))


def _clauses(text: str, spellings: Iterable[tuple[re.Pattern[str], str]]) -> Iterator[list[str]]:
    text = _plain(text)
    for spelling, written in spellings:
        text = spelling.sub(written, text)
    for clause in CLAUSE_END.split(text):
        yield WORD.findall(clause)


def _marked(clause: list[str], longest: int) -> Iterator[tuple[str, int]]:
    """Yield the words of a clause, and the place of each among the up to `longest` words after a negation, or 0.

    Negations, prepositions, stop words and letters are left out.
    """
    place = 0
    for word, following in zip(clause, [*clause, ""][1:], strict=True):
        if word in NEGATIONS and not any(map(str.isdigit, following)):
            place = 1
        elif word in ENDS:
            place = 0
        elif len(word) > 1 and word not in SKIPPED:
            yield word, place
            place = place + 1 if 0 < place < longest else 0


def _with_affixes(marked: list[tuple[str, int]]) -> Iterator[tuple[str, bool]]:
    """Negate the words of a clause before "free" too, and what "non" and "less" negate within a word.

    A word that follows a negation directly asserts what it negates: "not cordless".
    """
    following = [word for word, _ in marked[1:]] + ["", ""]
    for number, (word, place) in enumerate(marked):
        yield word, place > 0 or (following[number] == "free" and following[number + 1] not in FREE_THINGS)
        if word.endswith("less") and len(word) >= LEAST_STEM + len("less"):
            yield word.removesuffix("less"), place != 1
        if word.startswith("non") and len(word) >= LEAST_STEM + len("non"):
            yield word.removeprefix("non"), place != 1
