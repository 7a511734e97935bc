"""Exact and near-duplicate removal across documents."""
