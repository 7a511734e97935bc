"""Stages that look for exam items in the text: before it is packed, and later, for exams that came later."""
