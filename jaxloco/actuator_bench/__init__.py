"""A test bench with hidden motors, which stands for the real robot: plain MuJoCo, and no code of the learner's.

`hidden` has the motors, `rig` moves a robot with them and measures. They know NumPy and MuJoCo; a test sees to it that
they import nothing that trains, fits or simulates in jaxloco, so that what is learnt here is learnt from recordings.
"""
