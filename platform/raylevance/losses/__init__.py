"""Losses: pure functions of tensors, each with its formula and its source. All of them are sums over instances."""
