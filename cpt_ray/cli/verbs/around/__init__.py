"""Verbs that are given something else than a study file, or nothing."""
