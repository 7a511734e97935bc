"""The page's tables, made of records."""
