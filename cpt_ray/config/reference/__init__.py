"""The reference of all keys, rendered from the schema."""
