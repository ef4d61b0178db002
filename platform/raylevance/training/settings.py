"""What a training run is told."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from raylevance.config import Settings
from raylevance.losses import temperature


class TrainSettings(Settings):
    """One run of the loop.

    `batch` counts the instances of one optimiser step on all workers together: the result does not depend on `workers`.
    `epochs` end early at `max_steps`. The losses are sums, so the gradient grows with `batch`; `clip_norm` bounds it,
    and AdamW's step does not depend on its size.
    """

    loss: Literal["supcon", "infonce", "triplet"] = "supcon"
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    batch: PositiveInt = 64
    accumulate: PositiveInt = 1
    """Parts that each worker's share of a batch is computed in, one after the other; for losses within an instance."""
    gradcache_chunk: PositiveInt | None = None
    """Texts of one forward pass with a graph, for batches that do not fit in memory (GradCache)."""

    learning_rate: PositiveFloat = 2e-5
    temperature_learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a rising rate; after it the rate falls linearly to 0."""
    clip_norm: PositiveFloat = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    temperature: PositiveFloat = temperature.START
    """Where the learned temperature of supcon and infonce starts."""
    margin: PositiveFloat = 0.1

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
    """The evaluation metric whose highest value picks the encoder that is kept, the untrained one among them; None
    keeps the last one."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.loss == "infonce" and self.accumulate > 1:
            raise ValueError("accumulate would cut the negatives of infonce: set gradcache_chunk, which keeps them all")
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate={self.accumulate} parts of a batch of {self.batch} would leave some empty")
        if self.keep_best and not self.evaluate_every:
            raise ValueError(f"keep_best={self.keep_best} needs evaluate_every")
        return self
