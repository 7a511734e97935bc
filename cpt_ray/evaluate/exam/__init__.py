"""Exams: multiple-choice questions, their prompts, and their scores."""
