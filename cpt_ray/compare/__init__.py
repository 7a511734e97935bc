"""Judging scores: paired differences, and the verdict that follows from them."""
