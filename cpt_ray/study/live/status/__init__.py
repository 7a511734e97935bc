"""A study as seen from outside, from its root alone: how far it is, whether its driver lives, and its log files."""
