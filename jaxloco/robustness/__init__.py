"""How a policy does where the robot is not as in training: friction, payload, delay, pushes, gains and terrain.

Over grids of these a bundle is played as the robot would run it, hundreds of robots at once, in the environment of its
training. Each study replays some of it through the onboard runtime and compares.
"""
