"""How far a plan is off: peak memory and time, planned after a trial and then measured."""
