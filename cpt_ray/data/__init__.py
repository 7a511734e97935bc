"""From raw text to packed shards: stages that explain every drop, composed by `pipeline` on Ray Data."""
