"""Checks of a robot's model: what is missing, wrong or unsupported, with the line to change; see `diagnose`."""
