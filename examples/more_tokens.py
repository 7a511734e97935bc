"""Train a finished study on: python examples/more_tokens.py STUDY.yaml +400M [section.key=value ...]."""

import sys

from cpt_ray import Study

path, budgets, *overrides = sys.argv[1:]
study = Study.load(path, *overrides)
study.extend(budgets, dry_run=True)  # what is reused, and what is new
study = study.extend(budgets)  # the trunk goes on from its last checkpoint; the file gets the budget
print(study.results().to_pandas().query("metric == 'bits_per_byte'")[["run", "tokens", "set", "value"]].to_string(index=False))
