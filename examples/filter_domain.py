"""Filter a domain out of general text, and look at the threshold before any training.

python examples/filter_domain.py DOMAIN.jsonl GENERAL.jsonl BASE [section.key=value ...]
"""

import sys

from cpt_ray import Study

domain, general, base, *overrides = sys.argv[1:]
texts = {"sources.examples.path": domain, "sources.web.path": general, "models.base.base": base}
for threshold in (0.5, 0.3):
    where = {"sources.web_domain.where": f"topic >= {threshold}"}
    study = Study.load("examples/filter_domain.yaml", texts, where, *overrides)
    print(f"--- topic >= {threshold}")
    study.prepare()  # the second time nothing is cleaned or scored again: only chosen and packed
