"""DeepSpeed, as the few calls that the loop needs."""
