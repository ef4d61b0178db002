"""What a training run is told, whatever it trains."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from raylevance.config import Settings


class TrainSettings(Settings):
    """One run of the loop.

    `batch` counts the examples of one optimiser step on all workers together: the result does not depend on `workers`.
    `epochs` end early at `max_steps`. The losses are sums, so the gradient grows with `batch`; `clip_norm` bounds it,
    and AdamW's step does not depend on its size.
    """

    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    batch: PositiveInt = 64

    learning_rate: PositiveFloat = 2e-5
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a rising rate; after it the rate falls linearly to 0."""
    clip_norm: PositiveFloat = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    workers: PositiveInt = 1
    cpus_per_worker: PositiveInt | None = None
    """None: the cluster's processors, shared out evenly."""
    use_gpu: bool = False
    max_failures: NonNegativeInt = 2

    evaluate_every: PositiveInt | None = None
    """Steps; it also runs before the first one and at the end."""
    checkpoint_every: PositiveInt | None = 500
    """Steps; None: one checkpoint, at the end."""
    log_every: PositiveInt = 10
    log_to: Literal["none", "tensorboard", "mlflow"] = "none"
    keep_best: str | None = None
    """The evaluation metric whose highest value picks the model that is kept, the untrained one among them; None
    keeps the last one."""

    @model_validator(mode="after")
    def _best_of_some(self) -> Self:
        if self.keep_best and not self.evaluate_every:
            raise ValueError(f"keep_best={self.keep_best} needs evaluate_every")
        return self
