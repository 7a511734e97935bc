"""Entry point for `ray job submit --working-dir . -- python jobs/evaluate.py CONFIG [section.key=value ...]`."""

import sys

from cpt_ray.cli.main import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
