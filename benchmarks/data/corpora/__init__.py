"""Texts for benchmarks: from packages, and synthetic."""
