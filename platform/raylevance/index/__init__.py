"""Search over products: nearest vectors, BM25, their fusion, filters, and the mining of hard pairs."""
