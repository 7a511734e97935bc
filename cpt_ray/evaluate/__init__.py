"""Scoring exports: bits per byte on held-out text, exams through lm-eval, and the launcher that runs both for many models."""
