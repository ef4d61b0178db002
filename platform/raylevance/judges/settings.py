"""The settings that describe a judge, in YAML files and in `judge.json` of a judge artifact."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from raylevance.config import Settings
from raylevance.data.text import ProductText
from raylevance.judges.grader_judge import GRADERS
from raylevance.judges.guideline import load_guideline
from raylevance.judges.prompt import JudgePrompt
from raylevance.llm.endpoint import EndpointSettings
from raylevance.llm.vllm_engine import VllmSettings


class JudgeSettings(Settings):
    """The model that grades, the prompt that it reads, and how its answers become labels."""

    backend: Literal["vllm", "endpoint", "cross-encoder", "regression"]
    """The kind of model. The setting of the same name describes it."""
    vllm: VllmSettings | None = None
    """vLLM engines that answer the prompt."""
    endpoint: EndpointSettings | None = None
    """A server of chat completions that answers the prompt."""
    cross_encoder: str | None = None
    """The folder of a cross-encoder."""
    regression: str | None = None
    """The folder of a match regression."""
    text: ProductText | None = None
    """The template of the product texts that the judge was trained on; None for a judge that reads any text."""
    guideline: Path | None = None
    """A YAML file with the guideline; None for the guideline that comes with the library."""
    prompt: JudgePrompt | None = None
    """The prompt of a language model; None for the guideline with its examples."""
    temperature: PositiveFloat = 1.0
    """The log-probabilities are divided by this number; above 1, it lowers the confidence of every grade."""
    threshold: float = Field(0.0, ge=0, le=1)
    """The judge abstains from a grade whose confidence is below this."""

    READING: ClassVar[frozenset[str]] = frozenset({"temperature", "threshold"})
    """The settings that decide how answers are read, and not what is answered."""

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        if getattr(self, self._backend_field) is None:
            raise ValueError(f"backend={self.backend}: set {self._backend_field}")
        return self

    @property
    def _backend_field(self) -> str:
        return self.backend.replace("-", "_")

    @property
    def is_grader(self) -> bool:
        """Whether the model is one of `GRADERS`, which reads the pair alone, rather than a language model."""
        return self.backend in GRADERS

    @property
    def model(self) -> str | None:
        """The folder or Hugging Face id of the model; None where only a server knows it."""
        return self.vllm.model if self.vllm else self.regression or self.cross_encoder

    @property
    def grader_folder(self) -> str:
        """The folder of the grader; only with `is_grader`."""
        return str(getattr(self, self._backend_field))

    def chosen_prompt(self) -> JudgePrompt:
        """Return the prompt of a language model. Raises `UsageError` for a guideline that can't be read."""
        return self.prompt or JudgePrompt.zero_shot(load_guideline(self.guideline))

    def answer_settings(self) -> dict[str, Any]:
        """Return the settings that decide the answers, as JSON values.

        Answers are stored under a fingerprint of these, so a change of any other setting keeps the stored answers.
        """
        settings = self.model_dump(mode="json", exclude=set(self.READING))
        for name, backend in (("vllm", self.vllm), ("endpoint", self.endpoint)):
            settings[name] = backend.answer_settings() if backend else None
        return settings
