"""Says what is missing, wrong or unsupported in a robot's model, and which line to change to what; see `diagnose`."""
