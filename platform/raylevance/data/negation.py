"""The words that a query excludes, and those that a title says a product lacks: "lamp without cord". English only."""

import re
from collections.abc import Iterator, Sequence

import Stemmer

from raylevance.data.normal_form import normal_form
from raylevance.data.words import WORD, with_character_pairs

NEGATIONS = frozenset({"without", "no", "not", "non"})
ENDS = frozenset({"with", "for", "in", "on", "from", "but", "and", "or"})
"""Words that end a negation, as punctuation does."""
LONGEST_NEGATION = 3
"""The most words that a negation negates."""
CLAUSE_END = re.compile(r"[.,;:|!?()\[\]]|\s[-–—]\s")
WITHOUT = re.compile(r"\bw/o\b")
LEAST_STEM = 3
"""The fewest letters before "less" in a word that negates them."""


def excluded_stems(query: str) -> frozenset[str]:
    """Return the stems, by Snowball's English stemmer, that a query does not want.

    These are up to `LONGEST_NEGATION` words after "without", "w/o", "no", "not" or "non", up to a preposition or
    punctuation. A stem that the query also asks for is not among them ("box for silverware without silverware"), nor is
    a number after "no" ("chanel no 5").
    """
    asserted, negated, stems = set[str](), set[str](), _Stems()
    for clause in _clauses(query):
        for word, is_negated in _marked(clause):
            (negated if is_negated else asserted).add(stems[word])
    return frozenset(negated - asserted)


def exclusions(excluded: frozenset[str], titles: Sequence[str]) -> list[float]:
    """Return for each title the share of the stems `excluded` that it asserts, less the share that it negates.

    A title negates words as a query does, and those before "free" ("sugar-free") or "less" ("cordless"). A stem that it
    both asserts and negates counts as negated. A share is between -1 and 1, and 0 without stems. Source: our choice,
    like the marks of negated words in sentiment analysis (Pang, Lee and Vaithyanathan 2002).
    """
    stems, shares = _Stems(), []
    for title in titles:
        asserted, negated = set[str](), set[str]()
        for clause in _clauses(title) if excluded else ():
            for word, is_negated in _with_suffixes(list(_marked(clause))):
                if (stem := stems[word]) in excluded:
                    (negated if is_negated else asserted).add(stem)
        shares.append((len(asserted - negated) - len(negated)) / max(len(excluded), 1))
    return shares


class _Stems(dict[str, str]):
    """The stem of each word, made when it is first asked for. Threads cannot share a PyStemmer stemmer."""

    def __init__(self) -> None:
        super().__init__()
        self._stemmer = Stemmer.Stemmer("english")

    def __missing__(self, word: str) -> str:
        stem: str = self._stemmer.stemWord(word)
        return self.setdefault(word, stem)


def _clauses(text: str) -> Iterator[list[str]]:
    for clause in CLAUSE_END.split(WITHOUT.sub("without", with_character_pairs(normal_form(text)))):
        yield WORD.findall(clause)


def _marked(clause: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield the words of a clause but for those of negation, and whether each is negated."""
    left = 0
    for word, following in zip(clause, [*clause, ""][1:], strict=True):
        if word in NEGATIONS and not (word == "no" and following.isdigit()):
            left = LONGEST_NEGATION
        elif word in ENDS:
            left = 0
        else:
            yield word, left > 0
            left -= 1


def _with_suffixes(marked: list[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Negate the words of a clause before "free" and "less" too."""
    for (word, negated), (following, _) in zip(marked, [*marked, ("", False)][1:], strict=True):
        yield word, negated or following == "free"
        if word.endswith("less") and len(word) >= LEAST_STEM + len("less"):
            yield word.removesuffix("less"), True
