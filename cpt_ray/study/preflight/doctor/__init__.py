"""Checks of `cpt-ray doctor`: the software, the machine, what a study needs of them, and a training step."""
