"""Entry point for `ray job submit --working-dir . -- python jobs/train.py CONFIG [section.key=value ...]`."""

import sys

from cpt_ray.cli.main import main

sys.exit(main(["train", *sys.argv[1:]]))
