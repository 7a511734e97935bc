"""Exact and near-duplicate removal across documents: `signatures` gives the keys, `components` joins what shares one."""
