"""Tables of products, queries, judgements and events: reading, checking, splitting, composing text."""
