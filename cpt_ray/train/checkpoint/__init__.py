"""Checkpoints: written, committed, found, verified, and converted for another number of workers."""
