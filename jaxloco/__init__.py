"""Train a policy for a legged or wheeled-legged robot in minutes, run it on the robot with NumPy alone.

Importing `jaxloco` imports nothing heavy; see `jaxloco.onboard` for the robot's side.
"""

__version__ = "0.1.0"
