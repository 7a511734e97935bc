"""Measuring: processes in turns, claims with limits, results files, and the table of them."""
