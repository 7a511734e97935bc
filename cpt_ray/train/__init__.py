"""Sample order, schedule, engine, checkpoints and the loop."""
