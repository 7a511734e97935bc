"""The schema of a study file, one module per section; `load` reads it. Nothing here touches data."""
