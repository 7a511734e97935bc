"""Stages on Ray Data: units of work, the tasks on them, and the verbs that run stages in order."""
