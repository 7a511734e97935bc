"""The only doors to the world: storage, Python packages, MLflow and the Ray session."""
