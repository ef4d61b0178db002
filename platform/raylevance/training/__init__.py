"""The training loop of all recipes, on Ray Train, and the tasks that it trains."""
