"""Entry point for `ray job submit --working-dir . -- python jobs/study.py CONFIG [section.key=value ...]`: the whole study."""

import sys

from cpt_ray.cli.main import main

sys.exit(main(["run", *sys.argv[1:]]))
