"""The stages of a study, one module each; `study.graph.STAGES` puts them in order."""
