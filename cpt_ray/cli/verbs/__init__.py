"""One module per verb of the command line; `cli/catalog.py` lists them."""
