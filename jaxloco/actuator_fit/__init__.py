"""Actuator networks from recordings: what moves the robot, what is fitted, and how good it is (docs/actuators.md)."""
