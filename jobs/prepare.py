"""Entry point for `ray job submit --working-dir . -- python jobs/prepare.py CONFIG [section.key=value ...]`."""

import sys

from cpt_ray.cli.main import main

sys.exit(main(["prepare", *sys.argv[1:]]))
