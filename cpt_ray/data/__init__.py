"""From raw text to packed shards: stages that account for every drop, composed by `pipeline` on Ray Data."""
