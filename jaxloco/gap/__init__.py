"""How far a simulator is from a robot: predictions of recordings, and what would bring them closer."""
