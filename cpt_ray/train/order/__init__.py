"""Which rows a step sees: a function of the position, from an arm's mixtures to a worker's micro-batches."""
