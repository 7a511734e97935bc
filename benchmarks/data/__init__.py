"""Preparation against its peers: `python -m benchmarks.data`."""
