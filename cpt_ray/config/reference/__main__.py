"""Write `configs/README.md`: `python -m cpt_ray.config.reference > configs/README.md`."""

import sys

from cpt_ray.config.reference.render import render_reference

sys.stdout.write(render_reference())
