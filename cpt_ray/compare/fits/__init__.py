"""Fitting curves to scores: the forms, the estimate, and intervals that hold their level at a few points and seeds."""
