"""Cells, artifacts and the lease: runs the rooms in order and redoes only what changed."""
