"""Acceptance lists: each box PASS or FAIL with its evidence, one module per list."""
