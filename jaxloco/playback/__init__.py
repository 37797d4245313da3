"""Play an exported policy in plain MuJoCo, apart from the environments it was trained in: sim-to-sim.

The policy runs as on the robot (`jaxloco.onboard`, NumPy alone), and one robot is stepped by `mujoco.mj_step`. What the
task asks for (initial states, commands, pushes, terminations) comes from the bundle's own configuration.
"""
