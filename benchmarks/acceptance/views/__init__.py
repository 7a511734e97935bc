"""How acceptance lists look at pages: a browser, and MLflow in it."""
