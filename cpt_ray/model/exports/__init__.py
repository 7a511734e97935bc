"""Folders of models that users take away: writing one, and making one out of others without training."""
