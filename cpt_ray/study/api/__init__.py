"""The study as an object, for scripts, notebooks and the command line."""
