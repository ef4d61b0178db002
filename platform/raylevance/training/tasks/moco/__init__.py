"""Momentum contrast of an encoder on pairs that are sampled from a behaviour graph."""
