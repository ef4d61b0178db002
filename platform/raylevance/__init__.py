"""raylevance: e-commerce search relevance on Ray, from a click log to a served, graded retriever."""

__version__ = "0.1.0"
