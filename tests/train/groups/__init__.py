"""Tests of the groups of workers that train runs side by side."""
