"""Differences between models, with their errors, and the verdict."""
