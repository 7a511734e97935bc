"""Verbs that check, estimate or show, and change nothing."""
