"""Which runs a study trains, and the learning rate of each."""
