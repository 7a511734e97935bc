"""Scores of one model: bits per byte on held-out text, exams through lm-eval."""
