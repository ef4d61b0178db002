"""Momentum contrast of an encoder on pairs sampled from a behaviour graph."""
