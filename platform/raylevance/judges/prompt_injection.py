"""Text that talks to the judge instead of to shoppers: an instruction in a title would decide its own grade.

A small language model repeats a grade that stands in the text, whatever the guideline says of it, so such a pair is set
aside for people to look at (our choice). The patterns know the words of grading and of overriding, in English;
they don't know every wording. What they let through is data on one line of the prompt.
"""

import re
import unicodedata

_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_VERDICT = r"(?:[012](?![\w+%/-]|\.\d)|(?:highly |not )?relevant\b|irrelevant\b)"
_FILLER = r"(?:\s+(?:with|only|just|it|this|that|the|product|item|pair|as|by|a|an|grade|label|number|of|to|be|is))"
_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        # ignore the instructions above
        r"\b(?:ignore|disregard|forget|override|bypass)\b[^.!?]{0,60}"
        r"\b(?:above|previous|prior|earlier|instructions?|rules|guidelines?|grades?|prompts?)\b",
        # the grade of this product is 2; relevance = 2
        r"\b(?:grade|label|score|relevance|answer|response|verdict|judge?ment)\b[^.!?]{0,40}?"
        rf"(?::|=|->|\b(?:is|be|as)\b)\s*[\"'(\[]*{_VERDICT}",
        # answer with 2; rate this product 2
        rf"\b(?:answer|respond|reply|output|say|choose|pick|classify|treat|consider|rate){_FILLER}*"
        rf"\s*:?\s*[\"'(\[]*{_VERDICT}",
        rf"\b(?:mark|label|grade|score|give|return){_FILLER}+\s*:?\s*[\"'(\[]*{_VERDICT}",
        r"\byou are (?:now )?(?:a |an |the )?(?:ai|assistant|judge|grader|language model)\b",
    )
]


def talks_to_the_judge(text: str) -> str:
    """The words of `text` that do, as they were compared; "" where there are none."""
    plain = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold().split())
    found = next((match for pattern in _PATTERNS if (match := pattern.search(plain))), None)
    return found.group() if found else ""
