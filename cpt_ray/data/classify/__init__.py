"""Domain classifiers: features, models, calibration and measures; `data.run.classifier_tasks` runs them over units."""
