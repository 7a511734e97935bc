"""Entry point for `ray job submit --working-dir . -- python jobs/compare.py CONFIG [section.key=value ...]`."""

import sys

from cpt_ray.cli.main import main

sys.exit(main(["compare", *sys.argv[1:]]))
