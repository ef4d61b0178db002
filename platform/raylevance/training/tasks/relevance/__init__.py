"""Training of the relevance model on pairs judged by people and pairs labelled from behaviour."""
