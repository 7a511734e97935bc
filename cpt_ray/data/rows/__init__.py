"""Documents to rows: tokenize, pack, and the shards that training reads."""
