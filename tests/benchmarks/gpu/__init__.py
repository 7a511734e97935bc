"""The bundle for a GPU host, and what is made of its results."""
