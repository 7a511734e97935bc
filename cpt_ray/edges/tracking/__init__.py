"""MLflow: the mirror of a study, what it is given, and whether it already has it. Only `store` imports MLflow."""
