"""Acceptance lists: one module per list, each box PASS or FAIL with its evidence."""
