"""Training of the relevance model on human and behaviour pairs."""
