"""The schema of a study file, one module per room; `load` reads it, nothing here touches data."""
