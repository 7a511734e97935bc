"""From documents to rows: tokenizing, packing, and the shards that training reads."""
