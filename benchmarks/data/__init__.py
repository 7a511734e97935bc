"""Data preparation against its peers: `python -m benchmarks.data`."""
