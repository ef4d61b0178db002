"""Models that turn texts into vectors, and vectors of pairs into scores."""
