"""Attention within documents: kernels for CPU and GPU, and the proof at the start that documents do not see each other."""
