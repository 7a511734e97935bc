"""How often intervals are wrong, in simulated studies: of paired differences, and of what fitted curves say."""
