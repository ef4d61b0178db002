"""What the recipes of weak supervision are made of: the graph of a shop, its pairs, the scorer, the baselines."""
