"""The behaviour graph: edges from events, meta-path projections, random walks, and training pairs."""
