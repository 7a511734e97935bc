"""Models that are neither imported nor trained: from random weights, or made out of others."""
