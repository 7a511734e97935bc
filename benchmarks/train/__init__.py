"""Training against a bare loop and HF Trainer: `python -m benchmarks.train`."""
