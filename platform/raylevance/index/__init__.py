"""Search over products: nearest vectors, BM25, their fusion, and filters."""
