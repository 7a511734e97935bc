"""Compare one setting in two values: two studies that differ in one override, scored on the same documents.

python examples/compare_studies.py STUDY.yaml section.key=value [section.key=value ...]
"""

import sys

from cpt_ray import Study

path, override, *rest = sys.argv[1:]
first = Study.load(path, *rest)
# A root of its own for the second: results of both stay, and what is prepared alike is prepared once in each.
second = Study.load(path, *rest, override, {"study.root": f"{first.config.study.root}-other"})
first.run()
second.run()
tables = [study.results().to_pandas().set_index(["run", "set", "metric"])["value"] for study in (first, second)]
table = tables[0].to_frame("as it is").join(tables[1].rename(override))
print(table.to_string())
print("with intervals and pairs:")
largest = first.results().to_pandas().sort_values("tokens")["run"].iloc[-1]
print(f"  cpt-ray compare {first.config.study.root}:{largest} {second.config.study.root}:{largest}")
