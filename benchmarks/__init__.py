"""What cpt-ray is measured by, run as `python -m benchmarks.ROOM` from the repository's root."""
