"""Verbs that make artifacts of a study, or conclude from them."""
