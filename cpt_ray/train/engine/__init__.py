"""DeepSpeed, reduced to the few calls that the loop needs."""
