"""Exact and near-duplicate removal across documents: `signatures` computes keys, `components` joins what shares one."""
