"""What `cpt-ray init` decides for a study of one's own: it looks at text, base and hardware, and fills a template.

Flow: answers -> `texts` (sources), `bases`, `hardware` -> `sizes` -> `fill` (YAML, by a template of `templates/`).
"""
