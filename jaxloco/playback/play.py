"""Play a bundle for many episodes and report the figures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np

from jaxloco import options
from jaxloco.envs.curriculum import Curriculum
from jaxloco.envs.env import EnvSpec, robot_on_ground
from jaxloco.envs.ground import Ground
from jaxloco.envs.locomotion_rewards import STILL
from jaxloco.envs.terms import Bound, bind
from jaxloco.errors import BundleError, ConfigError, JaxlocoError, UnknownNameError
from jaxloco.onboard.clients.run import EpisodeResult, run_episode
from jaxloco.onboard.policy import Policy
from jaxloco.playback.compare import Difference, beginning, fields_fit, first_difference, predicted_readings
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.instruments import Instruments
from jaxloco.playback.provenance import check_provenance
from jaxloco.playback.pursued import goal_figures, turn_rates
from jaxloco.playback.scenario import Scenario, draw_scenarios
from jaxloco.playback.simulator import Record, Simulator, trained_pose
from jaxloco.playback.standing import stand_figures
from jaxloco.playback.tracked import motion_figures
from jaxloco.robot import Robot, known_robots, load_robot
from jaxloco.robot.entries import matching
from jaxloco.tasks import recorded_recipe
from jaxloco.training.config import at_level
from jaxloco.training.evaluation import aligned, number, overlap_rows, percent

OnStep = Callable[[mujoco.MjModel, mujoco.MjData], None]


@dataclass(frozen=True, eq=False)
class Playback:
    """A bundle, its task, and the robot under the conditions that it is played in.

    Attributes:
        policy: The onboard policy.
        spec: The task's description, in its training model.
        robot: The robot under the conditions.
        ground: What it stands on.
        conditions: The conditions, delays in whole simulation steps.
        trained: The task with the robot of the training; None if that robot is no longer where it was.
    """

    policy: Policy
    spec: EnvSpec
    robot: Robot
    ground: Ground
    conditions: Conditions
    trained: EnvSpec | None = None

    @classmethod
    def load(cls, folder: str | Path, conditions: Conditions, level: int | None = None) -> "Playback":
        """Load a bundle and verify that it gives the trained policy's answers here.

        Args:
            folder: The bundle.
            conditions: How it is played.
            level: Level of terrain, -1 for a random one in each episode; the task's own setting if None.

        Raises:
            BundleError: The bundle cannot be trusted, or does not say with which configuration it was trained.
            ConfigError: The bundle is for another robot, or there is no such level of terrain or no such command.
        """
        policy = Policy.load(folder)
        policy.verify()
        check_provenance(folder, policy.spec.provenance)
        _check_command(policy, conditions.command)
        if conditions.robot is not None:
            locked = _matched(conditions.robot, _locked(policy))
            _check_joints(policy, folder, load_robot(conditions.robot, locked=locked))
        spec = task_spec(policy, folder, level, conditions.robot)
        robot, ground = robot_on_ground(replace(spec, variant=conditions.robot_variant or spec.variant))
        trained: EnvSpec | None = spec
        if conditions.robot is None:
            _check_joints(policy, folder, robot)
            _check_facts(folder, policy.spec.provenance.get("robot"), robot)
        else:
            trained = _trained(policy, folder, level)
        robot = conditions.apply(robot)
        return cls(policy, spec, robot, ground, conditions.in_steps(robot.model.opt.timestep), trained)

    @property
    def instruments(self) -> Instruments:
        """What the robot reads, in terms of the pose that the policy was trained with."""
        return Instruments(self.robot, self.spec.quantities, self.spec.scan, trained_pose(self.policy.spec))

    def remarks(self, asked: Conditions) -> list[str]:
        """Return remarks on the conditions: another robot, or delays rounded to whole simulation steps."""
        found, own = [], self.policy.spec.robot
        if self.robot.name != own:
            found.append(f"a policy for the robot {own!r}, played on {self.robot.name!r}")
        for name in ("delay", "latency"):
            given, used = getattr(asked, name), getattr(self.conditions, name)
            if abs(given - used) > 1e-6:
                step = 1e3 * self.robot.model.opt.timestep
                found.append(f"--{name} {given:g} is simulated as {used:g} ms: whole steps of {step:g} ms")
        return found

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        """Draw the scripts of episodes; see `draw_scenarios`."""
        return draw_scenarios(self.spec, self.robot, self.ground, self.conditions, count, seed)

    def play(
        self, scenario: Scenario, on_step: OnStep | None = None, regulate: bool = False
    ) -> tuple[EpisodeResult, Record, np.ndarray]:
        """Play one episode through the onboard loop, in real time if `regulate`.

        Returns:
            How it went, what was recorded, and the policy's actions in [-1, 1], (T, n_action).
        """
        simulator = Simulator(self.policy.spec, self.spec, self.robot, self.conditions, scenario, on_step, self.ground)
        seconds = scenario.steps * self.robot.control_dt
        actions: list[np.ndarray] = []

        def remember(*_: Any) -> None:
            actions.append(self.policy.action)

        result = run_episode(self.policy, simulator, seconds, regulate=regulate, on_step=remember)
        simulator.record.keep(result.report.steps)
        if result.report.truncated and not result.report.latched:
            result = replace(result, survived=True)  # it left the terrain, or arrived, without a fall
        return result, simulator.record, np.array(actions)

    def difference(self, scenario: Scenario, seconds: float) -> Difference | None:
        """Return the first reading in the first `seconds` that differs from training; None if there is none.

        What `not_compared` names is the same on both sides, or is left out.
        """
        spec = self.trained or self.spec
        scenario = beginning(scenario, seconds, self.robot.control_dt)
        if not fields_fit(spec, scenario):
            scenario = replace(scenario, fields={})
        _, record, actions = self.play(scenario)
        steps = _leading_finite(record)
        training = predicted_readings(spec, scenario, record, actions[:steps])
        return first_difference(self.policy, record.inputs[: steps + 1], training, self.robot.control_dt)

    def not_compared(self) -> list[str]:
        """Return the options of the conditions that `difference` cannot see an effect of."""
        given, found = self.conditions, []
        if given.robot is not None and self.trained is None:
            found.append(f"--robot {given.robot} (that of the training is not here)")
        if given.noise != 0.0:
            found.append(f"--noise {given.noise:g}")
        if given.push_scale != 1.0:
            found.append(f"--push-scale {given.push_scale:g}")
        if given.randomize:
            found.append("--randomize")
        return found


def _leading_finite(record: Record) -> int:
    """Return after how many steps the simulation broke down, or ended."""
    finite = [
        bool(np.isfinite(q).all() and np.isfinite(v).all()) for q, v in zip(record.qpos, record.qvel, strict=True)
    ]
    return [*finite, False].index(False)


def task_spec(policy: Policy, folder: str | Path, level: int | None = None, robot: str | None = None) -> EnvSpec:
    """Return the description of the task that a policy was trained on, from the bundle's provenance.

    Args:
        policy: The policy.
        folder: Its bundle.
        level: Level of terrain; the task's own setting if None.
        robot: Name or folder of a robot to take the place of the task's, which then need not be there.

    Raises:
        BundleError: The provenance holds no configuration, or none that this jaxloco understands.
        RobotError: The robot's folder is not where it was in the training.
    """
    config = policy.spec.provenance.get("config")
    if not isinstance(config, Mapping) or not isinstance(config.get("task_name"), str):
        raise BundleError(
            f"{folder}: provenance.config: expected the configuration of the training, found none; "
            "export the policy again from its run: jaxloco export RUN"
        )
    source = f"{folder}: provenance.config"
    try:
        default = recorded_recipe(config, source).task
        given: Any = config.get("task")
        task: Any = options.from_dict(type(default), given, source=f"{source}.task", default=default)
    except ConfigError as error:
        raise BundleError(str(error)) from error
    try:
        if robot is not None and hasattr(task, "robot"):
            task = replace(task, robot=robot)
            if getattr(task, "locked", ()):
                task = replace(task, locked=_matched(robot, task.locked))
        spec = task.spec()
    except (ConfigError, OSError) as error:
        raise BundleError(f"{source}: {error}") from error
    if level is not None:
        spec = at_level(task, level).spec()
    if not isinstance(spec, EnvSpec):
        raise BundleError(f"{folder}: {task.name!r} is another package's environment; only ours play in plain MuJoCo")
    return spec


def _trained(policy: Policy, folder: str | Path, level: int | None) -> EnvSpec | None:
    """Return the task with its own robot; None if that cannot be loaded, or has changed since the training."""
    try:
        spec = task_spec(policy, folder, level)
        robot = spec.load_robot()
        _check_joints(policy, folder, robot)
        _check_facts(folder, policy.spec.provenance.get("robot"), robot)
    except JaxlocoError:
        return None
    return spec


def _locked(policy: Policy) -> tuple[str, ...]:
    """Return the patterns of joints that the task of a policy holds, on whatever robot."""
    config = policy.spec.provenance.get("config")
    task = config.get("task") if isinstance(config, Mapping) else None
    return tuple(task.get("locked", ())) if isinstance(task, Mapping) else ()


def _matched(robot: str, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return those patterns of joints to hold that match one of a robot; in another model these may be no joints."""
    names = load_robot(robot).joint_names
    return tuple(pattern for pattern in patterns if matching(names, [pattern]))


def _check_command(policy: Policy, command: tuple[float, ...] | None) -> None:
    """Refuse a fixed command of another size than the policy's."""
    sizes = {item.name: item.size for item in policy.spec.inputs if item.source == "command"}
    if command is not None and sizes and len(command) not in sizes.values():
        known = ", ".join(f"{name} has {size} components" for name, size in sizes.items())
        raise ConfigError(f"command {command}: {known}; leave --command out, or give as many numbers")


def _check_joints(policy: Policy, folder: str | Path, robot: Robot) -> None:
    """Refuse a robot whose joints, or whose control rate, are not the policy's."""
    facts = policy.spec.provenance.get("robot")
    ports: tuple[Any, ...] = (*policy.spec.outputs, *policy.spec.inputs)
    joints = next((port.components for port in ports if port.components), robot.joint_names)  # of an older bundle
    if isinstance(facts, Mapping):
        joints = tuple(joint["name"] for joint in facts["joints"])
    if robot.joint_names != tuple(joints):
        own = policy.spec.robot if policy.spec.robot in known_robots() else "FOLDER, its own"
        odd = [f"{name!r} is not there" for name in joints if name not in robot.joint_names]
        odd += [f"{name!r} is not among them" for name in robot.joint_names if name not in joints]
        raise ConfigError(
            f"{folder} is a policy for the robot {policy.spec.robot!r}, whose joints are not those of {robot.name!r} "
            f"({odd[0] if odd else 'their order differs'}: {robot.folder}); play it with --robot {own}"
        )
    if robot.control_frequency != policy.spec.control_frequency:
        raise ConfigError(
            f"{robot.folder / 'robot.toml'}: control_frequency = {robot.control_frequency:g}, but the policy in "
            f"{folder} was trained with {policy.spec.control_frequency:g}; write that, or train it again"
        )


def _check_facts(folder: str | Path, facts: Any, robot: Robot) -> None:
    """Refuse a robot folder whose joints and bodies are no longer those that the policy was trained with.

    Bundles of older versions hold no such facts, or not all of them.
    """
    if not isinstance(facts, Mapping):
        return
    for change in _changes(facts, robot.facts()):
        raise ConfigError(
            f"{robot.folder}: {change} when the policy in {folder} was trained; train it again, or play it on purpose "
            f"with --robot {robot.folder}"
        )


def _changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between two `Robot.facts`, of joints and bodies that both know."""
    for table, kind in (("joints", "joint"), ("bodies", "body")):
        before, after = ({entry["name"]: entry for entry in facts.get(table, now[table])} for facts in (was, now))
        for name in (*before, *after):
            if name not in after or name not in before:
                yield f"there is {'no' if name in before else 'a'} {kind} {name!r}, other than"
                return
            for key, value in after[name].items():
                if not _same(before[name].get(key, value), value):
                    yield f"{kind} {name!r} has {key} = {value}, but had {before[name][key]}"


def _same(was: Any, now: Any) -> bool:
    """Whether two facts agree, but for the rounding of another machine or MuJoCo."""
    if isinstance(now, str) or isinstance(was, str):
        return bool(was == now)
    return np.shape(was) == np.shape(now) and bool(np.allclose(was, now, rtol=1e-5, atol=1e-9))


def evaluate_bundle(
    folder: str | Path,
    conditions: Conditions,
    episodes: int,
    seed: int,
    *,
    level: int | None = None,
    compare_seconds: float = 20.0,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> dict[str, Any]:
    """Play episodes and return the figures as plain JSON values.

    Args:
        folder: The bundle.
        conditions: The conditions.
        episodes: How many.
        seed: Of the episodes.
        level: Level of terrain; see `Playback.load`.
        compare_seconds: How much of one episode (the first that ended in a fall, if any did) is compared with training,
            s; 0 for nothing.
        on_episode: Called with every result as soon as it is there.

    Returns:
        "episodes", "survived" (share), "passed" (share of grade 1, see `jaxloco.envs.curriculum.Curriculum`; not there
        if the grade depends on more than the readings at the end), "seconds_mean", "reward_raw" (mean over time of each
        reward term that can be computed from what is recorded), "torque_saturation" and "speed_saturation" (share of
        time and motors; with the worst motor), "self_overlap" (see `jaxloco.self_contact.Overlaps.figures`; of a robot
        of several parts), "standing" (see `jaxloco.playback.standing.stand_figures`; of a robot that is commanded to
        stand), "motions" (see `jaxloco.playback.tracked.motion_figures`; of a robot that tracks some), "goals" (see
        `jaxloco.playback.pursued.goal_figures`; of a task with goals), "turn_rates" (of each object, see
        `jaxloco.playback.pursued.turn_rates`), "training" (the evaluation of the training, as
        the bundle holds it), "compared_episode" (from 0), "compared_seconds", "not_compared" (conditions that the
        comparison does not see), "first_difference", "conditions" (as simulated), "remarks" (see `Playback.remarks`).
    """
    playback = Playback.load(folder, conditions, level)
    scenarios = playback.scenarios(episodes, seed)
    results, records = [], []
    for scenario in scenarios:
        result, record, _ = playback.play(scenario)
        results.append(result)
        records.append(record)
        if on_episode is not None:
            on_episode(result)
    worst = next((i for i, result in enumerate(results) if not result.survived), 0)
    difference = playback.difference(scenarios[worst], compare_seconds) if compare_seconds > 0.0 else None
    return {
        "simulator": f"MuJoCo {mujoco.__version__}, mj_step",
        "conditions": asdict(playback.conditions),
        "remarks": playback.remarks(conditions),
        **_figures(playback, results, records),
        "compared_episode": worst,
        "compared_seconds": min(compare_seconds, results[worst].seconds),
        "not_compared": playback.not_compared(),
        "first_difference": difference.to_dict() if difference else None,
        "training": dict(playback.policy.spec.provenance.get("evaluation") or {}),
    }


def _figures(playback: Playback, results: Sequence[EpisodeResult], records: Sequence[Record]) -> dict[str, Any]:
    """Return what `evaluate_bundle` tells of the episodes themselves."""
    instruments, robot = playback.instruments, playback.robot
    figures: dict[str, Any] = {
        "episodes": len(results),
        "survived": float(np.mean([result.survived for result in results])),
        **share_passed(playback.spec.curriculum, instruments, results, records),
        "seconds_mean": float(np.mean([result.seconds for result in results])),
        "reward_raw": reward_terms(playback, records),
        "safety": {name: sum(r.report.safety[name] for r in results) for name in results[0].report.safety},
    }
    for kind in ("torque", "speed"):
        shares = np.mean(np.concatenate([getattr(record, kind) for record in records]), axis=0)
        worst = int(np.argmax(shares))
        joint = robot.model.actuator(worst).name if shares[worst] > 0.0 else ""
        saturation = {"mean": float(np.mean(shares)), "largest": float(shares[worst]), "joint": joint}
        figures[f"{kind}_saturation"] = saturation
    if len(robot.collision_geoms) > 1:
        poses = np.concatenate([np.array(record.qpos)[: _leading_finite(record)] for record in records])
        figures |= {"self_overlap": robot.self_contacts.overlaps(poses).figures()} if len(poses) else {}
    command = playback.conditions.command
    if command is not None and robot.feet and np.linalg.norm(command) <= STILL:
        figures["standing"] = stand_figures(robot, instruments, records)
    if any(record.moments for record in records):
        figures["motions"] = motion_figures([r.moments for r in records], [result.survived for result in results])
    if robot.objects:
        paths = [np.array(record.qpos)[: _leading_finite(record)] for record in records]
        figures["turn_rates"] = turn_rates(robot, [path for path in paths if len(path)])
    if reached := [record.reached[-1] for record in records if record.reached]:
        figures["goals"] = goal_figures(reached)
    return figures


def share_passed(
    curriculum: Curriculum, instruments: Instruments, results: Sequence[EpisodeResult], records: Sequence[Record]
) -> dict[str, float]:
    """Return the share of episodes of grade 1, if no more than the readings at the end are needed to tell."""
    graded = _bind("grade", curriculum.grade, (*instruments.names, "terminated"), {}, curriculum.constants)
    if graded is None:
        return {}
    passed = []
    for result, record in zip(results, records, strict=True):
        panel = instruments.at(record.qpos[-1], record.qvel[-1])
        end = {name: panel[name] for name in graded.sources.values() if name != "terminated"}
        passed.append(int(graded({**end, "terminated": np.bool_(not result.survived)})) > 0)
    return {"passed": float(np.mean(passed))}


def reward_terms(playback: Playback, records: Sequence[Record]) -> dict[str, float]:
    """Return the mean over time of the reward terms that depend on nothing but instruments and commands."""
    commands = [item.name for item in playback.policy.spec.inputs if item.source == "command"]
    instruments = playback.instruments
    bound: dict[str, Bound] = {}
    for term in playback.spec.rewards:
        reads = _bind(term.name, term.function, (*instruments.names, *commands), term.inputs, term.constants)
        if reads is not None:
            bound[term.name] = reads
    names = sorted({source for term in bound.values() for source in term.sources.values()})
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for record in records:
        seen = record.inputs[:-1]  # a step is judged by the commands that the policy saw before it
        for qpos, qvel, inputs in zip(record.qpos, record.qvel, seen, strict=True):
            panel = instruments.at(qpos, qvel)
            for name in names:
                columns[name].append(inputs[name] if name in commands else panel[name])
    values = {name: np.asarray(rows, np.float32) for name, rows in columns.items()}
    return {name: float(np.mean(jax.vmap(term)(values))) for name, term in bound.items() if term.sources}


def _bind(
    what: str,
    function: Callable[..., Any],
    known: Sequence[str],
    inputs: Mapping[str, str],
    constants: Mapping[str, Any],
) -> Bound | None:
    """Bind a term; None if it reads what is not known here."""
    try:
        return bind(function, known, what=what, inputs=inputs, constants=constants)
    except (ConfigError, UnknownNameError):
        return None


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures of `evaluate_bundle` as one table, with those of the training's evaluation beside them."""
    training, raw = figures["training"], figures["training"].get("reward_raw", {})
    rows = [("", "here", "in training"), ("episodes", str(figures["episodes"]), str(training.get("episodes", "")))]
    known = [
        ("survived", "survived", percent),
        ("passed", "passed", percent),
        ("mean length (s)", "seconds_mean", number),
    ]
    rows += [(name, show(figures[key]), show(training.get(key))) for name, key, show in known if key in figures]
    rows += [(name, number(value), number(raw.get(name))) for name, value in figures["reward_raw"].items()]
    rows += [(name, here, "") for name, here in _extra_rows(figures)]
    return aligned(rows)


def _extra_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the rows of a table for which training has no figures; not every robot or command has all of them."""
    overlap, standing = figures.get("self_overlap"), figures.get("standing")
    yield from overlap_rows(overlap)
    if standing is not None:
        yield "drift, largest (m)", number(standing["drift"]["largest"])
        yield "  from 1 s on", number(standing["settled_drift"]["largest"])
        yield "steps after 1 s", str(standing["steps"])
    for clip, found in figures.get("motions", {}).items():
        yield f"{clip}: completed", percent(found["completed"])
        yield "  body error (mm)", number(1e3 * found["error"])
        yield "  drift at its end (mm)", "" if found["drift"] is None else number(1e3 * found["drift"])
    for name, rate in figures.get("turn_rates", {}).items():
        yield f"{name}: turn rate (rad/s)", number(rate)
    if "goals" in figures:
        yield "goals in a row, median", number(figures["goals"]["median"])
        yield "  mean", number(figures["goals"]["mean"])
    for kind in ("torque", "speed"):
        share = figures[f"{kind}_saturation"]
        yield f"{kind} saturation", percent(share["mean"])
        if share["joint"]:
            yield f"  {share['joint']}", percent(share["largest"])


def describe(figures: Mapping[str, Any]) -> str:
    """Return what the comparison with training found, and what it left out."""
    found, others = figures["first_difference"], figures["not_compared"]
    seconds, episode = figures["compared_seconds"], f"episode {figures['compared_episode']}"
    line = f"each step in the first {seconds:g} s of {episode} shows the readings that it would in training"
    if found is not None:
        line = f"first reading that differs from training: {Difference(**found)}, in {episode}"
    return f"{line}\nleft out of this comparison: {', '.join(others)}" if others else line


def remarks(figures: Mapping[str, Any]) -> str:
    """Return `Playback.remarks` as lines."""
    return "".join(f"note: {remark}\n" for remark in figures["remarks"])
