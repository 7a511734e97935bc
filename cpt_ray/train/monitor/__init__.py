"""What is measured and reported of a run while it trains."""
