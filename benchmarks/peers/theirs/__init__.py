"""The peers as their documentation sets them up: a process each, with its settings as JSON."""
