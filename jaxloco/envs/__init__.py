"""Environments: pure `reset` and `step` of one robot, put together from named terms."""
