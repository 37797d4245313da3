"""A robot, its motor, a task and an algorithm that are not in jaxloco's repository."""
