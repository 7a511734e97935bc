"""From documents to domain arms: classifiers, scores, derived sources, what arms share; on Ray Data, like `data.run`."""
