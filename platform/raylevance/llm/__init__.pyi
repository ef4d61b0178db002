from .backends import LanguageModelSettings, open_language_model
from .cached_answers import answer_prompts
from .endpoint import Endpoint, EndpointSettings
from .language_model import LanguageModel, Request
from .ledger import Ledger
from .synthetic import SyntheticSettings
from .vllm_engine import VllmModel, VllmSettings

__all__ = [
    "Endpoint",
    "EndpointSettings",
    "LanguageModel",
    "LanguageModelSettings",
    "Ledger",
    "Request",
    "SyntheticSettings",
    "VllmModel",
    "VllmSettings",
    "answer_prompts",
    "open_language_model",
]
