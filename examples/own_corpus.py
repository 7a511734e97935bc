"""Continue pretraining on a folder of your own text: python examples/own_corpus.py FOLDER BASE [section.key=value ...]."""

import sys

from cpt_ray import Study

folder, base, *overrides = sys.argv[1:]
mine = {"sources.mine.path": f"{folder}/*.txt", "models.base.base": base}
study = Study.load("examples/own_corpus.yaml", mine, *overrides)
study.check()  # costs nothing
report = study.run()  # stopped at any time, the same line resumes
print(study.results().to_pandas()[["run", "set", "metric", "value", "low", "high"]])
print(f"open {report.path}, or call report.show()")
