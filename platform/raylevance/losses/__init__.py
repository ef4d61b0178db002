"""Losses: pure functions of tensors, each with its formula and its source. All are sums over instances."""
