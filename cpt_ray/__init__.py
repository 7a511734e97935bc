"""Domain-adaptive continued pretraining of language models, with an honest answer to what it bought.

The rooms, in the order of the data: `data` prepares text, `train` trains, `evaluate` scores, `compare` and `report`
answer, `study` runs them in order. `docs/architecture.md` draws the flow.
"""

__version__ = "0.1.0"
