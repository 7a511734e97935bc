"""What goes on while a study works: progress lines, runs that train, and models that are scored beside them."""
