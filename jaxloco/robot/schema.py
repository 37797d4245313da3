"""The keys of robot.toml. docs/robots.md says what each is."""

from functools import partial

from jaxloco.toml_schema import Key, Schema, Table

SCHEMA_VERSION = 1

_optional = partial(Key, required=False)
_figure = partial(Key, "number", required=False, grouped=True)

SCHEMA: Schema = {
    "schema": Key("whole number", "version of this file's layout", "1", choices=(SCHEMA_VERSION,)),
    "robot": Table(
        {
            "name": Key("text", "name of the robot", '"upkie"'),
            "model": Key("text", "MJCF file in this folder", '"robot.xml"'),
            "base_body": _optional("text", "body with the free joint", '"base"'),
            "imu_site": _optional("text", "site where the IMU sits", '"imu"'),
            "self_contacts": _optional(
                "texts",
                "geoms that touch one another in training; * stands for any text",
                '["*_foot", "*_shank"]',
                default=(),
            ),
            "locked": _optional(
                "texts", "joints that are held in the default pose; * stands for any text", '["*_arm_*"]', default=()
            ),
        }
    ),
    "timing": Table(
        {
            "control_frequency": Key("number", "control rate in Hz", "200.0", above=0),
            "simulation_timestep": Key("number", "physics step in s", "0.001", above=0, at_most=1),
        }
    ),
    "pose": Table(
        {
            "base_position": Key("numbers", "x y z of the base in m", "[0.0, 0.0, 0.5]", length=3),
            "base_orientation": _optional(
                "numbers", "unit quaternion w x y z", "[1.0, 0.0, 0.0, 0.0]", default=(1.0, 0.0, 0.0, 0.0), length=4
            ),
        },
        required=False,
    ),
    "joints": Table(
        {
            "name": Key("text", "a hinge or slide joint of the model, or a pattern of such names", '"left_hip"'),
            "default": _figure("joint position of the default pose, rad or m", "0.0"),
            "control": _optional(
                "text",
                "what the actuator's target is",
                '"position"',
                grouped=True,
                choices=("position", "velocity", "torque"),
            ),
            "kp": _figure("position gain, N m/rad or N/m", "20.0", at_least=0),
            "kd": _figure("velocity gain, N m s/rad or N s/m", "1.0", at_least=0),
            "torque_limit": _figure("largest torque or force, N m or N", "16.0", above=0),
            "velocity_limit": _figure("largest velocity, rad/s or m/s", "28.8", above=0),
            "corner_velocity": _figure("velocity up to which torque_limit is there, rad/s or m/s", "25.0", at_least=0),
            "actuator": _optional("parts", "what stands between target and joint", '"curve"'),
            "armature": _figure("reflected rotor inertia, kg m^2 or kg", "0.0", at_least=0),
            "damping": _figure("joint damping, N m s/rad or N s/m", "0.0", at_least=0),
            "frictionloss": _figure("dry friction, N m or N", "0.0", at_least=0),
        },
        required=False,
        repeated=True,
    ),
    "thrusters": Table(
        {
            "name": Key("text", "name of the thruster", '"main_rotor"'),
            "site": Key("text", "site that it acts at", '"rotor"'),
            "axis": Key(
                "numbers",
                "directions of its force and of its torque in the site's frame",
                "[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]",
                length=6,
            ),
            "gain": _optional("number", "force or torque of a command of 1, N or N m", "50.0", default=0.0),
            "bias": _optional("number", "force or torque without a command, N or N m", "0.0", default=0.0),
            "drag": _optional(
                "number", "loss per velocity along the axis, N s/m or N m s/rad", "0.1", default=0.0, at_least=0
            ),
            "limits": _optional(
                "numbers", "smallest and largest command", "[-1.0, 1.0]", default=(-1.0, 1.0), length=2
            ),
        },
        required=False,
        repeated=True,
    ),
    "wheels": Table(
        {
            "name": Key("text", "name of the wheel", '"left"'),
            "joint": Key("text", "one of [[joints]]", '"left_wheel"'),
            "geom": Key("text", "the geom that touches the floor", '"left_wheel"'),
            "radius": Key("number", "wheel radius in m", "0.05", above=0),
            "forward_sign": Key(
                "number", "sign of the joint velocity that rolls the robot forward", "1.0", choices=(1.0, -1.0)
            ),
        },
        required=False,
        repeated=True,
    ),
    "feet": Table(
        {
            "name": Key("text", "name of the foot", '"FL"'),
            "geoms": Key("texts", "the sole: geoms that touch the floor", '["FL_foot"]'),
            "body": _optional("text", "the body they belong to", '"FL_calf"'),
        },
        required=False,
        repeated=True,
    ),
    "height_scan": Table(
        {
            name: _optional("number", f"how far {where} its base the robot measures the ground, m", "1.0", at_least=0)
            for name, where in (("behind", "behind"), ("ahead", "ahead of"), ("aside", "to each side of"))
        },
        required=False,
    ),
    "objects": Table(
        {
            "name": Key("text", "name of the object", '"cube"'),
            "body": Key("text", "its body, with a free joint", '"cube"'),
            "position": Key("numbers", "x y z where an episode begins, in m", "[0.1, 0.0, 0.05]", length=3),
            "orientation": _optional(
                "numbers", "unit quaternion w x y z", "[1.0, 0.0, 0.0, 0.0]", default=(1.0, 0.0, 0.0, 0.0), length=4
            ),
        },
        required=False,
        repeated=True,
    ),
    "fingertips": Table(
        {
            "name": Key("text", "name of the fingertip", '"index"'),
            "geom": Key("text", "the geom that touches objects", '"index_tip"'),
        },
        required=False,
        repeated=True,
    ),
    "variants": Table(
        {
            "floor_contacts": Key(
                "texts", "geoms that touch the floor and one another too; * stands for any text", '["*_hull_*"]'
            ),
            "iterations": _optional("whole number", "solver iterations", "20", at_least=1, at_most=1000),
            "ls_iterations": _optional("whole number", "line search iterations", "20", at_least=1, at_most=1000),
            "cone": _optional("text", "friction cone", '"elliptic"', choices=("pyramidal", "elliptic")),
            "impratio": _optional("number", "stiffness of friction", "10.0", above=0),
        },
        required=False,
        named=True,
    ),
}
