from .audit import AuditSettings
from .causal_judge import CausalJudge, LoraSettings
from .cross_encoder import CrossEncoder
from .gate import compare_with_people, measure_agreement
from .grade_decisions import decide_grades, fit_temperature
from .guideline import Guideline, load_guideline
from .labelling import Labelling, label_pairs, label_table
from .match_regression import MatchRegression
from .prompt import JudgePrompt
from .prompt_injection import find_prompt_injection
from .settings import JudgeSettings

__all__ = [
    "AuditSettings",
    "CausalJudge",
    "CrossEncoder",
    "Guideline",
    "JudgePrompt",
    "JudgeSettings",
    "Labelling",
    "LoraSettings",
    "MatchRegression",
    "compare_with_people",
    "decide_grades",
    "find_prompt_injection",
    "fit_temperature",
    "label_pairs",
    "label_table",
    "load_guideline",
    "measure_agreement",
]
