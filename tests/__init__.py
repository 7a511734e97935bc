"""Tests: a folder for each room of `cpt_ray`, and those of studies as a whole in `integration` and `chaos`."""

import os

# Before torch is imported. Two processes of tests and their workers on two cores would wait for each other's threads,
# 8 % of the time of the tests of model, training and evaluation.
os.environ.setdefault("OMP_NUM_THREADS", "1")
