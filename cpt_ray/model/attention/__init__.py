"""Attention within documents: kernels for CPU and GPU, and the start-up proof that documents do not see each other."""
