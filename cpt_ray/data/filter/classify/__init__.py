"""Domain classifiers: features, models, calibration and measures; `data.filter.classifier_tasks` runs them over units."""
