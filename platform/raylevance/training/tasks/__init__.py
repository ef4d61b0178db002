"""Training tasks: a model, a loss, batches and metrics each."""
