"""What a study found, as its users see it: report, MLflow, summary."""
