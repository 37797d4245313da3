"""The environment of ONE robot, put together from terms; `jaxloco.envs.batch` makes many of it.

One control period goes: action → pipeline (what the robot runs too) → processes that act (delays, pushes) → joints →
physics → quantities → reward, termination → processes that follow (commands, memories) → observation.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.envs import actions
from jaxloco.envs.adr import dimensions_of
from jaxloco.envs.clocks import Clock
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import FULL, Curriculum, CurriculumState, Sampler
from jaxloco.envs.feet import foot_memories, foot_quantities
from jaxloco.envs.gaits import Gait, standing_feet
from jaxloco.envs.goals import Goals
from jaxloco.envs.ground import FLAT, GridGround, Ground, Tile
from jaxloco.envs.height_scan import ground_quantities
from jaxloco.envs.interface import Info, PolicyInterface, Pose
from jaxloco.envs.motions import Motion, Shown
from jaxloco.envs.objects import object_quantities
from jaxloco.envs.observations import ObservationTerm, Observer
from jaxloco.envs.processes import Processes, States, quantities_of
from jaxloco.envs.quantities import QuantityTable, Snapshot, Values, standard_quantities
from jaxloco.envs.randomization import RandomizedModel
from jaxloco.envs.spec import ActionSpec, EnvSpec  # noqa: F401  both are also imported from here
from jaxloco.envs.terms import Bound, bind
from jaxloco.envs.whole_motors import check_processes
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.onboard.spec import GAIT_CLOCK, EstimateSpec, InputSpec
from jaxloco.physics import Controls, PhysicsSpec, PhysicsState, make_physics
from jaxloco.physics.contract import OVERFLOW, ModelParams, OnDevice, Readings
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot, load_robot
from jaxloco.self_contact import Overlaps
from jaxloco.terrain import make_grid

OUTCOME = ("terminated", "elapsed")
"""What the curriculum's grade may take beside quantities."""

GROUPS = ("actor", "critic", "teacher", "estimate")
"""Whom observations are for: the policy, its critic, a teacher that tells what it would do, and an estimator, whose
answers they are."""

MOST_STEPS = 1_000_000
"""Of an episode; a video of its robots keeps every one."""

IN_SIGHT = 5.0
"""How far terrain is drawn around a robot, m: drawing all of it is slow."""

_KEY = jax.ShapeDtypeStruct((2,), np.uint32)
"""Shape of a random key."""


class EnvState(NamedTuple):
    """The state of one robot's episode, and the results of the last step.

    Attributes:
        physics: State of the engine.
        params: Model fields of this episode.
        tile: Row and column of the terrain; empty where there is none.
        pipeline: State of each stage of the action pipeline.
        processes: States by name: those of the processes, and of the observers by the name of their group.
        wrench: Force and torque that acted on the base in the last step, world frame, (6,), N and N m.
        curriculum: How far this robot has come.
        action: The last one, clipped to [-1, 1], (n_action,).
        step: Steps since the reset, ().
        limit: Steps after which the episode is truncated, ().
        key: Random key of the episode, (2,).
        observation: Group → vector.
        reward: Of the last step, ().
        terminated: Whether the episode ended in failure, ().
        truncated: Whether time or terrain ran out, ().
        info: What is logged.
    """

    physics: PhysicsState
    params: ModelParams
    tile: Tile
    pipeline: tuple[jax.Array, ...]
    processes: States
    wrench: jax.Array
    curriculum: CurriculumState
    action: jax.Array
    step: jax.Array
    limit: jax.Array
    key: jax.Array
    observation: dict[str, jax.Array]
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: Info


class Env:
    """`reset(key) -> EnvState` and `step(state, action) -> EnvState`, pure, for one robot."""

    def __init__(self, spec: EnvSpec, engine: str = "auto") -> None:
        self.spec = spec
        self.robot, self.ground = robot_on_ground(spec)
        self.dt = self.robot.control_dt
        self._base = self.robot.base_qpos_indices[:3]
        self.max_steps = self._steps("episode_seconds", spec.episode_seconds)
        self.training_steps = (self.max_steps, self.max_steps)
        if spec.training_seconds is not None:
            longest = min(self.max_steps, self._steps("training_seconds", spec.training_seconds))
            self.training_steps = (max(1, longest // 2), longest)
        spec.check_names()
        varied = (spec.randomization, spec.initial_state, spec.processes, spec.observations)
        adr = replace(spec.curriculum.adr, dimensions=dimensions_of(varied))
        self._curriculum = replace(spec.curriculum, adr=adr)
        self._motors = motors_of(self.robot, spec.motor_curves)
        check_processes(spec.processes, self._motors)
        self._randomized = RandomizedModel(self.robot, spec.randomization, self._motors)
        self._drive = spec.action.drive_of(self.robot)
        self._gait: Gait | Motion | None = spec.process(Gait) or spec.process(Motion)
        processes = (*foot_memories(self.robot), *spec.processes)
        self.quantities = QuantityTable(
            (
                *standard_quantities(self.robot, self.ground),
                *foot_quantities(self.robot, self.ground),
                *ground_quantities(self.robot, self.ground, spec.scan),
                *object_quantities(self.robot),
                *spec.action.quantities(),
                *quantities_of(processes, self.robot),
                *spec.quantities,
            )
        )
        self._rewards = [self._bind(t.name, t.function, t.inputs, t.constants, OUTCOME[:1]) for t in spec.rewards]
        self._weights = np.array([term.weight for term in spec.rewards], np.float32)
        self._terminations = [self._bind(t.name, t.function, t.inputs, t.constants) for t in spec.terminations]
        self._time_outs = np.array([term.time_out for term in spec.terminations], bool)
        self._grade = self._bind("curriculum grade", spec.curriculum.grade, {}, spec.curriculum.constants, OUTCOME)
        self._check_observations()
        self._processes = Processes(processes, self.robot, self.quantities, self._used(), self.dt)
        self.physics = make_physics(self._physics_spec(), engine)
        self._nominal = {name: jax.device_put(value) for name, value in self.physics.spec.nominal().items()}
        self.observers = self._make_observers()
        self.step_numbers = self._count_step_numbers()

    # Sizes

    @property
    def action_size(self) -> int:
        """Components of an action."""
        return self.spec.action.size

    @property
    def observation_sizes(self) -> dict[str, int]:
        """Group → length of its observation."""
        return {name: observer.size for name, observer in self.observers.items()}

    # What training, evaluation and videos ask for: see `jaxloco.envs.interface.Environment`

    @property
    def curriculum(self) -> Curriculum:
        """How levels move from episode to episode."""
        return self._curriculum

    @property
    def reward_weights(self) -> dict[str, float]:
        """Reward term → its weight."""
        return {term.name: term.weight for term in self.spec.rewards}

    @property
    def termination_names(self) -> tuple[str, ...]:
        """Names of the termination terms."""
        return tuple(term.name for term in self.spec.terminations)

    @property
    def measured(self) -> dict[str, int]:
        """Quantities that the actor reads → number of components."""
        observer = self.observers["actor"]
        return dict(zip((term.quantity for term in observer.group.terms), observer.sizes, strict=True))

    @property
    def engine(self) -> str:
        """Name of the physics engine."""
        return self.physics.name

    def on_device(self) -> OnDevice | None:
        """Return what the engine keeps on its devices beside XLA's arrays; None if it keeps nothing there."""
        return self.physics.on_device()

    def most_robots(self) -> int | None:
        """Return for how many robots a device has memory beside XLA's; None if the engine needs none there."""
        return self.physics.most_robots()

    @property
    def robot_name(self) -> str:
        """Name of the robot."""
        return self.robot.name

    @property
    def origin(self) -> str:
        """The robot's folder."""
        return str(self.robot.folder)

    @property
    def floating(self) -> bool:
        """Whether the base is free to move."""
        return self.robot.base_body is not None

    def tile(self, state: EnvState) -> Tile:
        """Return row and column of the robot's tile."""
        return state.tile

    def measure(self, state: EnvState) -> jax.Array:
        """Return what the actor reads, before noise and delay, (frame_size,)."""
        readings: jax.Array = state.processes["actor"].readings
        return readings[0]

    def pose(self, before: EnvState, after: EnvState) -> Pose:
        """Return positions after a step, the force during it, what was commanded, and the motion that is tracked."""
        names = [process.name for process in self.spec.processes if isinstance(process, Command)]
        commands = {name: before.processes[name].value for name in names}
        return Pose(after.physics.qpos, after.wrench[:3], commands, self._reference(after))

    def _reference(self, state: EnvState) -> jax.Array | None:
        """Return the positions that are tracked, (nq,): those of a motion, or with the object at its goal."""
        goals = self.spec.process(Goals)
        if goals is not None:
            return goals.configuration(self.robot, state.processes[goals.name], state.physics.qpos)
        motion = self._gait if isinstance(self._gait, Motion) else None
        return None if motion is None else motion.configuration(state.processes[motion.name])

    def record(self, state: EnvState) -> dict[str, Any]:
        """Return the state before a step that broke down, the model and the action."""
        return {"physics": state.physics, "params": state.params, "action": state.action}

    def self_overlaps(self, qpos: np.ndarray) -> Overlaps | None:
        """Measure how parts of the robot pass through each other in poses (n, nq); None where nothing could."""
        return self.robot.self_contacts.overlaps(qpos) if len(self.robot.collision_geoms) > 1 and len(qpos) else None

    def scene(self, qpos: np.ndarray) -> mujoco.MjModel:
        """Return a model to draw these configurations with, (frames, nq): of the terrain only what is near them."""
        return scene(self.robot, self.ground, qpos)

    # What the policy knows of itself

    def feedback(self, action: jax.Array, target: jax.Array, clock: Clock | Shown | None) -> dict[str, jax.Array]:
        """Return the quantities that the policy computes itself, by name.

        Args:
            action: The last one, (n_action,).
            target: What the pipeline made of it, (n_outputs,).
            clock: What the gait clock, or the motion, shows; None without one.
        """
        values, start = {"last_action": action}, 0
        if clock is not None and self._gait is not None:
            values |= self._gait.readings(clock, action)  # type: ignore[arg-type]
        for output in self.spec.action.outputs:
            values[output.name] = target[start : start + output.size]
            start += output.size
        return values

    def robot_facts(self) -> dict[str, Any]:
        """Return the robot's rates, default pose, gains and limits."""
        return self.robot.facts()

    def interface(self) -> PolicyInterface:
        """Describe the policy's inputs and outputs.

        Raises:
            ConfigError: The actor reads something that the robot cannot measure.
        """
        observer = self.observers["actor"]
        terms = zip(observer.group.terms, observer.sizes, strict=True)
        return PolicyInterface(
            robot=self.robot.name,
            control_frequency=self.robot.control_frequency,
            inputs=tuple(self._input(term, size) for term, size in terms),
            outputs=self.spec.action.outputs,
            pipeline=self.spec.action.pipeline,
            observer=observer,
            feedback=self.feedback,
            gait=self._gait,
            estimates=self._estimates(),
        )

    def _estimates(self) -> tuple[EstimateSpec, ...]:
        told = self.observers.get("estimate")
        pairs = zip(told.group.terms, told.sizes, strict=True) if told else ()
        return tuple(EstimateSpec(term.quantity, self.quantities[term.quantity].unit, size) for term, size in pairs)

    def _input(self, term: ObservationTerm, size: int) -> InputSpec:
        quantity = self.quantities[term.quantity]
        if not quantity.measurable:
            raise ConfigError(
                f"the actor reads {term.quantity!r}, which robot {self.robot.name!r} cannot measure; "
                'move it to the group "critic"'
            )
        of_joints = quantity.frame == "joint" and size == len(self.robot.joints)
        return InputSpec(
            name=term.quantity,
            unit=quantity.unit,
            size=size,
            scale=term.scale,
            clip=term.clip,
            low=term.low,
            high=term.high,
            source=quantity.source,
            components=self.robot.joint_names if of_joints else (),
            frequency=self._gait.frequency if isinstance(self._gait, Gait) and term.quantity == GAIT_CLOCK else None,
        )

    # Construction

    def _steps(self, name: str, seconds: float) -> int:
        if not abs(seconds) <= MOST_STEPS * self.dt:
            raise ConfigError(f"{name} {seconds}: must be a finite time, at most {MOST_STEPS * self.dt:g} s")
        steps = round(seconds / self.dt)
        if steps < 1:
            raise ConfigError(f"{name} {seconds}: shorter than one control period ({self.dt} s)")
        return steps

    def _bind(
        self, name: str, function: Callable, inputs: Mapping, constants: Mapping, more: tuple[str, ...] = ()
    ) -> Bound:
        known = (*self.quantities.names, *more)
        return bind(function, known, what=f"term {name!r}", inputs=inputs, constants=constants)

    def _check_observations(self) -> None:
        groups = self.spec.observations
        for name, group in groups.items():
            if name not in GROUPS:
                raise unknown_name("observation group", name, GROUPS)
            for term in group.terms:
                if term.quantity not in self.quantities.names:
                    raise unknown_name("quantity", term.quantity, self.quantities.names)
        if "actor" not in groups:
            raise ConfigError('observations need a group "actor"')
        outputs = {output.name for output in self.spec.action.outputs}
        read = outputs & {term.quantity for term in groups["actor"].terms}
        if read and np.asarray(jax.jit(self._first_target)()).any():
            raise ConfigError(
                f"the actor reads {sorted(read)}, which are zero after a reset on the robot, but the action pipeline "
                'begins elsewhere; let it read "last_action" instead'
            )

    def _first_target(self) -> jax.Array:
        """Return what the pipeline makes of no action after a reset, (n_outputs,)."""
        stages, still = self.spec.action.pipeline, jnp.zeros(self.action_size)
        clock = None if self._gait is None else self._gait.show(self._gait.start(), self.dt)  # type: ignore[arg-type]
        return actions.apply(stages, actions.initial_state(stages, self.spec.action.output_size), still, clock)[1]

    def _used(self) -> set[str]:
        """Return the quantities that observations, rewards, terminations and the curriculum take."""
        used = {term.quantity for group in self.spec.observations.values() for term in group.terms}
        for bound in (*self._rewards, *self._terminations, self._grade):
            used |= set(bound.sources.values())
        return used - set(OUTCOME)

    def _physics_spec(self) -> PhysicsSpec:
        return PhysicsSpec(
            model=self.robot.model,
            substeps=self.robot.substeps,
            fields=self._randomized.fields,
            readings=self.quantities.readings(self._used() | self._processes.reads),
            push_body=self.robot.pushed_body,
            motors=self._motors,
        )

    def _make_observers(self) -> dict[str, Observer]:
        used = {term.quantity for group in self.spec.observations.values() for term in group.terms}

        def evaluate(key: jax.Array) -> dict[str, jax.Array]:
            values = self.quantities.at(self._first_snapshot(self._sampler(key, FULL))[0])
            return {name: values[name] for name in used}

        shapes = jax.eval_shape(evaluate, _KEY)
        sizes = {name: int(np.prod(value.shape)) for name, value in shapes.items()}
        own = {name for name in used if self.quantities[name].source == "policy"}
        return {name: Observer(group, sizes, self.dt, own) for name, group in self.spec.observations.items()}

    def _count_step_numbers(self) -> int:
        """Return how many random numbers a step takes."""
        used = 0

        def count(key: jax.Array) -> None:
            nonlocal used
            state = self.reset(key)
            sampler = self._sampler(key, FULL)
            self._step(state, state.action, sampler)
            used = sampler.used

        jax.eval_shape(count, _KEY)
        return used

    # Episode

    def reset(
        self, key: jax.Array, curriculum: CurriculumState = FULL, limit: jax.Array | int | None = None
    ) -> EnvState:
        """Begin an episode with a fresh state and a fresh model.

        Args:
            key: Random key, (2,).
            curriculum: Stage of the curriculum; full ranges if not given.
            limit: Steps after which the episode is truncated; `max_steps` if not given.
        """
        key, key_draws = jax.random.split(key)
        curriculum = self.curriculum.drawn(curriculum, key_draws)
        sampler = self._sampler(key_draws, curriculum)
        snapshot, tile = self._first_snapshot(sampler)
        errors = {name: observer.draw(sampler) for name, observer in self.observers.items()}
        values = self.quantities.at(snapshot)
        observers = {name: o.start(values, errors[name], sampler) for name, o in self.observers.items()}
        zero = jnp.float32(0.0)
        return EnvState(
            physics=snapshot.physics,
            params=snapshot.params,
            tile=tile,
            pipeline=actions.initial_state(self.spec.action.pipeline, self.spec.action.output_size),
            processes={**snapshot.processes, **observers},
            wrench=jnp.zeros(6),
            curriculum=curriculum,
            action=snapshot.action,
            step=jnp.int32(0),
            limit=jnp.int32(self.max_steps if limit is None else limit),
            key=key,
            observation=self._observation(observers),
            reward=zero,
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            info=Info(
                reward_terms=jnp.zeros(len(self._rewards)),
                terminations=jnp.zeros(len(self._terminations), bool),
                nonfinite=jnp.bool_(False),
                off_terrain=jnp.bool_(False),
                grade=jnp.int32(0),
                episode_return=zero,
                episode_length=jnp.int32(0),
                overflow=zero if self.physics.counts_overflow else None,
            ),
        )

    def step(self, state: EnvState, action: jax.Array, numbers: jax.Array | None = None) -> EnvState:
        """Advance one control period.

        Args:
            state: State of one robot.
            action: In [-1, 1] (clipped here), (n_action,).
            numbers: Random numbers in [0, 1) of this step, (step_numbers,); from the state's own key if not given.
                Drawing those of a whole rollout at once is much cheaper on a CPU.

        Returns:
            The state after the step. `observation` is the one before any reset; `terminated` means failure,
            `truncated` that time or the terrain ran out, or that a termination term with `time_out` holds.

        Raises:
            ConfigError: The action has another shape, which would stand for all joints, or is of several robots.
        """
        key = jax.random.fold_in(state.key, state.step)
        shape = np.shape(action)
        if shape != (self.action_size,) and (shape, self.action_size) != ((), 1):
            raise ConfigError(
                f"an action of shape {shape}: one robot takes ({self.action_size},); for several, "
                "take jax.vmap(env.step)"
            )
        return self._step(state, jnp.clip(action, -1.0, 1.0), self._sampler(key, state.curriculum, numbers=numbers))

    def _step(self, state: EnvState, action: jax.Array, sampler: Sampler) -> EnvState:
        clock = None if self._gait is None else self._gait.show(state.processes[self._gait.name], self.dt)
        pipeline, target = actions.apply(self.spec.action.pipeline, state.pipeline, action, clock)
        before = Snapshot(
            physics=state.physics,
            readings={},
            params=state.params,
            action=action,
            previous_action=state.action,
            target=target,
            push=state.wrench[:3],
            processes=state.processes,
            time=self._time(state.step),
        )
        processes, acting, wrench = self._processes.act(self.quantities.at(before), sampler)
        physics, readings, finite = self._advance(state, Controls(self._drive(acting), wrench))
        step = state.step + 1
        after = before._replace(
            physics=physics, readings=readings, push=wrench[:3], processes=processes, time=self._time(step)
        )
        values = self.quantities.at(after)
        terms, reward, ends = self._judge(values, finite)
        processes, seen = self._processes.step(values, sampler)
        observers = {name: o.step(state.processes[name], seen, sampler) for name, o in self.observers.items()}
        terminated = self._failed(ends) | ~finite
        off_terrain = self.ground.is_off(physics.qpos[self._base])
        over = (step >= state.limit) | off_terrain
        if self._time_outs.any():
            over |= jnp.any(ends[self._time_outs])
        return state._replace(
            physics=physics,
            pipeline=pipeline,
            processes={**processes, **observers},
            wrench=wrench,
            action=action,
            step=step,
            observation=self._observation(observers),
            reward=reward,
            terminated=terminated,
            truncated=over & ~terminated,
            info=Info(
                reward_terms=terms,
                terminations=ends,
                nonfinite=~finite,
                off_terrain=off_terrain,
                grade=self._graded(values, terminated, step / state.limit),
                episode_return=state.info.episode_return + reward,
                episode_length=state.info.episode_length + 1,
                overflow=readings.get(OVERFLOW),
            ),
        )

    def _time(self, step: jax.Array) -> jax.Array:
        return step.astype(jnp.float32) * self.dt

    def _graded(self, values: Values, terminated: jax.Array, elapsed: jax.Array) -> jax.Array:
        """Return what an episode that ends here means for the robot's level, ()."""
        outcome = {"terminated": terminated, "elapsed": elapsed}
        return _scalar("curriculum grade", self._grade(ChainMap(outcome, values)), jnp.int32)  # type: ignore[arg-type]

    def _sampler(self, key: jax.Array, curriculum: CurriculumState, numbers: jax.Array | None = None) -> Sampler:
        block = 128 if numbers is None else numbers.shape[0]
        stages = self.curriculum
        return Sampler(
            key, curriculum, stages.progress_until, block=block, numbers=numbers, dimensions=stages.adr.names
        )

    def _first_snapshot(self, sampler: Sampler) -> tuple[Snapshot, Tile]:
        """Draw the model, the initial state and the processes of a new episode, and its tile of the terrain."""
        params = self.physics.complete(self._randomized.draw(self._nominal, sampler))
        tile = self.ground.tile(sampler.curriculum)
        qpos, qvel = self.spec.initial_state.draw_on(self.robot, self.ground, tile, sampler)
        physics, readings = self.physics.reset(params, qpos, qvel)
        still = jnp.zeros(self.action_size)
        snapshot = Snapshot(
            physics=physics,
            readings=readings,
            params=params,
            action=still,
            previous_action=still,
            target=self._first_target(),
            push=jnp.zeros(3),
            processes={},
            time=jnp.float32(0.0),
        )
        return snapshot._replace(processes=self._processes.start(snapshot, sampler)), tile

    def _advance(self, state: EnvState, controls: Controls) -> tuple[PhysicsState, Readings, jax.Array]:
        """Step the physics; a robot whose state is no longer finite keeps its last one and is reported."""
        after, readings = self.physics.step(state.params, state.physics, controls)
        bounded = jnp.all(jnp.abs(after.qpos) < 1e6) & jnp.all(jnp.abs(after.qvel) < 1e6)
        for reading in readings.values():
            bounded &= jnp.all(jnp.isfinite(reading))
        physics = jax.tree.map(lambda new, old: jnp.where(bounded, new, old), after, state.physics)
        return physics, jax.tree.map(lambda r: jnp.where(bounded, r, 0.0), readings), bounded

    def _judge(self, values: Values, finite: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return raw reward terms (n_terms,), the reward () and the termination terms (n_terminations,)."""
        terminations = zip(self.spec.terminations, self._terminations, strict=True)
        found = [_scalar(f"termination {spec.name!r}", term(values), bool) for spec, term in terminations]
        ends = jnp.stack(found) if found else jnp.zeros(0, bool)
        judged = ChainMap({"terminated": self._failed(ends)}, values)  # type: ignore[arg-type]
        rewards = zip(self.spec.rewards, self._rewards, strict=True)
        terms = jnp.stack([_scalar(f"reward {spec.name!r}", term(judged), jnp.float32) for spec, term in rewards])
        terms = jnp.where(finite, terms, 0.0)
        rate = terms @ self._weights
        if self.spec.reward_floor is not None:
            rate = jnp.maximum(rate, jnp.float32(self.spec.reward_floor))
        return terms, rate * jnp.float32(self.dt), ends

    def _failed(self, ends: jax.Array) -> jax.Array:
        """Return whether a termination term holds that is no time-out, ()."""
        return jnp.any(ends[~self._time_outs] if self._time_outs.any() else ends)

    def _observation(self, observers: States) -> dict[str, jax.Array]:
        return {name: self.observers[name].observation(state) for name, state in observers.items()}


def scene(robot: Robot, ground: Ground, qpos: np.ndarray) -> mujoco.MjModel:
    """Return a model to draw configurations of a robot with, (frames, nq): of terrain only what is near them."""
    if not isinstance(ground, GridGround):
        return robot.visual_model
    points = np.asarray(qpos, float)[:, robot.base_qpos_indices[:2]]
    window = ground.grid.window(points.min(axis=0) - IN_SIGHT, points.max(axis=0) + IN_SIGHT)
    return load_robot(robot.folder, robot.variant, window, tuple(robot.locked)).visual_model


def robot_on_ground(spec: EnvSpec) -> tuple[Robot, Ground]:
    """Load the robot with its terrain in its model."""
    robot = spec.load_robot()
    if not spec.terrain.kinds:
        return robot, FLAT
    if robot.base_body is None:
        raise ConfigError(
            f"robot {robot.name!r} is fixed to the world, so it has no use for terrain; write no kinds of it"
        )
    footprint = standing_feet(robot)[:, :2]
    grid = make_grid(spec.terrain)
    return spec.load_robot(grid), GridGround(spec.terrain, grid, footprint)


def _scalar(what: str, value: jax.Array, dtype: Any) -> jax.Array:
    if value is None:
        raise ConfigError(f"{what} gives nothing, but must give one number: its function lacks a return")
    array = jnp.asarray(value, dtype)
    if array.shape != ():
        raise ConfigError(f"{what} gives an array of shape {array.shape}, but must give one number: sum it, or any()")
    return array
