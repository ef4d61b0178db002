"""The training loop that every recipe uses, on Ray Train."""
