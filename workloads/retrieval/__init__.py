"""What the recipes of retrieval are made of: vectors, indexes, mined neighbours, and the systems that are compared."""
