"""Tables of products, queries, judgements and events: reading, checking, splitting and composing texts."""
