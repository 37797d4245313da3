"""A robot folder (robot.xml, robot.toml) becomes a checked `Robot`: models and name-to-index tables.

See docs/robots.md for the folder. Imports MuJoCo and NumPy, not JAX.
"""

from jaxloco.robot.checks import MOST_TILT as MOST_TILT
from jaxloco.robot.contacts import FLOOR as FLOOR
from jaxloco.robot.contacts import MEET as MEET
from jaxloco.robot.draft import HOME as HOME
from jaxloco.robot.folders import expanded as expanded
from jaxloco.robot.folders import known_robots as known_robots
from jaxloco.robot.folders import lasting_name as lasting_name
from jaxloco.robot.folders import named_folder as named_folder
from jaxloco.robot.folders import robots_dir as robots_dir
from jaxloco.robot.loading import load_robot as load_robot
from jaxloco.robot.loading import robot_problems as robot_problems
from jaxloco.robot.mjcf import MUJOCO_ERRORS as MUJOCO_ERRORS
from jaxloco.robot.mjcf import add_actuator as add_actuator
from jaxloco.robot.mjcf import coupled_joints as coupled_joints
from jaxloco.robot.mjcf import one_line as one_line
from jaxloco.robot.mjcf import read_mjcf as read_mjcf
from jaxloco.robot.robot import UNITS as UNITS
from jaxloco.robot.robot import Fingertip as Fingertip
from jaxloco.robot.robot import Foot as Foot
from jaxloco.robot.robot import FreeObject as FreeObject
from jaxloco.robot.robot import Joint as Joint
from jaxloco.robot.robot import Robot as Robot
from jaxloco.robot.robot import Thruster as Thruster
from jaxloco.robot.robot import Wheel as Wheel
from jaxloco.robot.schema import SCHEMA as SCHEMA
from jaxloco.robot.schema import SCHEMA_VERSION as SCHEMA_VERSION
