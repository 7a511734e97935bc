"""Stages on Ray Data: units of work, the tasks on them, and the verbs that put stages in order."""
