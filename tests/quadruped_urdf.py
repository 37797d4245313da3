"""A small quadruped as a URDF, as a newcomer might bring it."""

import itertools
import re

LEG = """
  <link name="{leg}_hip">
    <inertial><mass value="0.6"/><inertia ixx="0.0006" iyy="0.0008" izz="0.0006" ixy="0" ixz="0" iyz="0"/></inertial>
  </link>
  <joint name="{leg}_hip_joint" type="revolute">
    <parent link="base"/><child link="{leg}_hip"/><origin xyz="{x} {y} 0"/><axis xyz="1 0 0"/>
    <limit lower="-0.8" upper="0.8" effort="20" velocity="25"/>
  </joint>
  <link name="{leg}_thigh">
    <inertial>
      <origin xyz="0 0 -0.05"/><mass value="0.8"/>
      <inertia ixx="0.003" iyy="0.003" izz="0.0008" ixy="0" ixz="0" iyz="0"/>
    </inertial>
    <collision><origin xyz="0 0 -0.1"/><geometry><box size="0.03 0.03 0.15"/></geometry></collision>
  </link>
  <joint name="{leg}_thigh_joint" type="revolute">
    <parent link="{leg}_hip"/><child link="{leg}_thigh"/><origin xyz="0 {offset} 0"/><axis xyz="0 1 0"/>
    <limit lower="-0.7" upper="3.5" effort="20" velocity="25"/>
  </joint>
  <link name="{leg}_calf">
    <inertial>
      <origin xyz="0 0 -0.1"/><mass value="0.2"/>
      <inertia ixx="0.001" iyy="0.001" izz="0.00005" ixy="0" ixz="0" iyz="0"/>
    </inertial>
  </link>
  <joint name="{leg}_calf_joint" type="revolute">
    <parent link="{leg}_thigh"/><child link="{leg}_calf"/><origin xyz="0 0 -0.2"/><axis xyz="0 1 0"/>
    <limit lower="-2.7" upper="-0.5" effort="30" velocity="20"/><dynamics damping="0.01" friction="0.2"/>
  </joint>
  <link name="{leg}_foot">
    <collision><geometry><sphere radius="0.02"/></geometry></collision>
  </link>
  <joint name="{leg}_foot_fixed" type="fixed">
    <parent link="{leg}_calf"/><child link="{leg}_foot"/><origin xyz="0 0 -0.2"/>
  </joint>"""

BASE = """<?xml version="1.0"?>
<robot name="rover">
  <link name="base">
    <inertial>
      <origin xyz="0.01 0 0"/><mass value="5"/>
      <inertia ixx="0.02" iyy="0.05" izz="0.06" ixy="0" ixz="0" iyz="0"/>
    </inertial>
    <collision><geometry><box size="0.36 0.12 0.1"/></geometry></collision>
  </link>"""

DEFAULTS = {"hip": 0.0, "thigh": 0.8, "calf": -1.6}
"""The default pose that docs/add_your_robot.md names, rad."""


def quadruped_urdf() -> str:
    """Return the text of the URDF."""
    legs = [
        LEG.format(leg=front + side, x=0.18 if front == "F" else -0.18, y=sign * 0.05, offset=sign * 0.08)
        for front, (side, sign) in itertools.product("FR", (("R", -1), ("L", 1)))
    ]
    return BASE + "".join(legs) + "\n</robot>\n"


SPHERE = '<collision><geometry><sphere radius="0.02"/></geometry></collision>'
LYING = '<collision><origin rpy="1.5707963 0 0"/><geometry><cylinder radius="{}" length="{}"/></geometry></collision>'


def wheeled_urdf(kind: str = "continuous") -> str:
    """Return the URDF with wheels for feet, whose joints are continuous or have "a wide range"."""
    text = quadruped_urdf().replace(SPHERE, LYING.format(0.06, 0.03))
    mass = '<inertial><mass value="0.1"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>'
    text = text.replace('_foot">\n    <collision>', f'_foot">{mass}<collision>')
    turning = r'<joint name="\1_wheel_joint" type="{}"><axis xyz="0 1 0"/>'
    turning += '<limit lower="{}" upper="{}" effort="5" velocity="40"/>'
    limits = {"continuous": ("continuous", 0, 0), "a wide range": ("revolute", -1e3, 1e3)}[kind]
    return re.sub(r'<joint name="(.L|.R)_foot_fixed" type="fixed">', turning.format(*limits), text)
