"""The function that Ray Train runs on each worker."""

import ray.cloudpickle


def train_worker(config: dict[str, bytes]) -> None:
    """Train from the newest checkpoint, or from the start, to the end.

    `config["run"]` is a pickled `loop.TrainingRun`. Ray's controller unpickles this function and its config too, so
    both are kept free of imports of the models.
    """
    from raylevance.training.loop import train

    train(ray.cloudpickle.loads(config["run"]))
