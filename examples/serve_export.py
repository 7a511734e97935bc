"""Let a model of a study continue a text: python examples/serve_export.py STUDY.yaml TEXT [section.key=value ...].

An export is an ordinary Hugging Face folder, so a server takes it as it is: `vllm serve STUDY_ROOT/exports/RUN`. vLLM is not
part of this package, and nothing here was tested with it.
"""

import sys

from cpt_ray import Study

path, text, *overrides = sys.argv[1:]
model, tokenizer = Study.load(path, *overrides).model()  # the largest budget; .model("400M"), .model("base")
tokens = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=40, do_sample=False)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))
