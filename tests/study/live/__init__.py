"""Tests of what goes on while a study works."""
