"""Checkpoints: written, committed, found again, verified, and converted for another number of workers."""
