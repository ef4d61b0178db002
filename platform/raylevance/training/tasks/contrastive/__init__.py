"""Contrastive training of an encoder on instances: queries with labelled items, or with in-batch negatives."""
