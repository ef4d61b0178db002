"""Settings of a training run: those that decide its result, and those of the machine that computes it."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from raylevance.config import Settings


class TrainSettings(Settings):
    """Settings that decide the result of a training run, whatever machine computes it.

    Losses are summed over the examples of a batch, so the gradient grows with `batch`. `clip_norm` bounds it, and the
    size of AdamW's steps does not depend on it.
    """

    epochs: PositiveInt = 1
    """Passes over the training data."""
    max_steps: PositiveInt | None = None
    """Optimiser steps after which training stops, even within an epoch. None trains for all `epochs`."""
    batch: PositiveInt = 64
    """Examples of one optimiser step, over all workers together: the result does not depend on their number."""

    learning_rate: PositiveFloat = 2e-5
    """Highest learning rate, reached at the end of the warm-up."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay. Biases and the parameters of normalisation layers are not decayed."""
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises; afterwards it falls linearly to 0."""
    clip_norm: PositiveFloat = 1.0
    """Largest norm of a step's gradient; a longer gradient is scaled down to it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the forward pass. auto takes bf16 where the device computes in it, and fp32 elsewhere."""

    evaluate_every: PositiveInt | None = None
    """Steps between evaluations, which also run before the first step and after the last one. None never evaluates."""
    keep_best: str | None = None
    """Name of the evaluation metric that decides which model is kept: the one with the highest value, which may be the
    model before the first step. None keeps the last model."""

    @model_validator(mode="after")
    def _evaluates_to_keep_the_best(self) -> Self:
        if self.keep_best and not self.evaluate_every:
            raise ValueError(f"keep_best={self.keep_best} needs evaluate_every: set the steps between evaluations")
        return self


class MachineSettings(Settings):
    """Settings of the machine that computes a training run.

    They do not decide its result, except for rounding, as long as the encoder has no dropout: dropout draws its random
    numbers for each worker and each forward pass.
    """

    workers: PositiveInt = 1
    """Processes that share each batch."""
    cpus_per_worker: PositiveInt | None = None
    """Processors of each worker. None divides the processors of the cluster evenly between the workers."""
    use_gpu: bool = False
    """Give each worker a GPU."""
    max_failures: NonNegativeInt = 2
    """Failures of a worker after which the run is given up; up to then it restarts from the newest checkpoint."""
    batch_tokens: PositiveInt | None = None
    """Tokens of one forward and backward pass, padding included, which bounds the memory that a step needs. None takes
    a number that suits the model and the device."""
    checkpoint_every: PositiveInt | None = 25
    """Steps between checkpoints. None writes one checkpoint, at the end."""
    log_every: PositiveInt = 10
    """Steps between records of the loss."""
    log_to: Literal["none", "tensorboard", "mlflow"] = "none"
    """Where the records go besides the result: to no other place, to TensorBoard or to MLflow."""
