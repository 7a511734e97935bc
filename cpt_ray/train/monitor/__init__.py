"""Measurements and reports of a run while it trains."""
