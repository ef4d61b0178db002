"""Prompt injection: text that gives the judge an instruction, and so would decide its own grade.

A small language model repeats a grade that stands in the text, whatever the guideline says about it. A pair with such a
text is therefore quarantined for people to look at (our choice). The patterns know words of grading and of overriding
in English, and not every wording. An injection that they miss still reaches the model as data on one line.
"""

import re
import unicodedata

_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_GRADE = r"(?:[012](?![\w+%/-]|\.\d)|(?:highly |not )?relevant\b|irrelevant\b)"
_FILLER = r"(?:\s+(?:with|only|just|it|this|that|the|product|item|pair|as|by|a|an|grade|label|number|of|to|be|is))"
_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        # ignore the instructions above
        r"\b(?:ignore|disregard|forget|override|bypass)\b[^.!?]{0,60}"
        r"\b(?:above|previous|prior|earlier|instructions?|rules|guidelines?|grades?|prompts?)\b",
        # the grade of this product is 2; relevance = 2
        r"\b(?:grade|label|score|relevance|answer|response|verdict|judge?ment)\b[^.!?]{0,40}?"
        rf"(?::|=|->|\b(?:is|be|as)\b)\s*[\"'(\[]*{_GRADE}",
        # answer with 2; rate this product 2
        rf"\b(?:answer|respond|reply|output|say|choose|pick|classify|treat|consider|rate){_FILLER}*"
        rf"\s*:?\s*[\"'(\[]*{_GRADE}",
        rf"\b(?:mark|label|grade|score|give|return){_FILLER}+\s*:?\s*[\"'(\[]*{_GRADE}",
        r"\byou are (?:now )?(?:a |an |the )?(?:ai|assistant|judge|grader|language model)\b",
    )
]


def find_prompt_injection(text: str) -> str:
    """Return the words of `text` that instruct the judge, in lower case and on one line; "" if there are none."""
    plain = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold().split())
    match = next((match for pattern in _PATTERNS if (match := pattern.search(plain))), None)
    return match.group() if match else ""
