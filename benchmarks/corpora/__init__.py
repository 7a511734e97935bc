"""Texts to measure with: from packages, and made up."""
