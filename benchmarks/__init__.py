"""Benchmarks and acceptance lists of cpt-ray, run as `python -m benchmarks.ROOM` from the repository root."""
