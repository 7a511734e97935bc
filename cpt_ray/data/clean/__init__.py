"""Per-document rules: normalisation and quality."""
