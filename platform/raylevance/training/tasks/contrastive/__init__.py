"""Contrastive training of an encoder on graded or in-batch instances."""
