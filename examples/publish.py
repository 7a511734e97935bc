"""Write a folder that is ready for a model hub: python examples/publish.py STUDY.yaml FOLDER [section.key=value ...].

Read its README.md before you upload it: whether the licenses of base and text allow sharing the model is for you to check.
Then, with the hub's own tool: `hf upload OWNER/NAME FOLDER`.
"""

import sys

from cpt_ray import Study

path, folder, *overrides = sys.argv[1:]
study = Study.load(path, *overrides)
published = study.export(to=folder)
print((published / "README.md").read_text(encoding="utf-8"))
