"""Judging scores: paired differences, and the verdict based on them."""
