"""Measurement: processes in turns, claims with limits, results files and their summary table."""
