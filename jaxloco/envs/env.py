"""The environment of ONE robot, put together from terms; `jaxloco.envs.batch` makes many of it.

One control period goes: action → pipeline (what the robot runs too) → delay and bandwidth of the motors → joints →
physics → quantities → reward, termination, observation.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.envs import actions, clocks
from jaxloco.envs.actuators import Actuation, ActuationState, Drive
from jaxloco.envs.clocks import Clock, ClockState
from jaxloco.envs.commands import Command, CommandState
from jaxloco.envs.curriculum import FULL, Curriculum, CurriculumState, Range, Sampler
from jaxloco.envs.feet import foot_memories, foot_quantities
from jaxloco.envs.gaits import Gait, clock_reading, standing_feet
from jaxloco.envs.ground import FLAT, KIND, LEVEL, GridGround, Ground, Tile
from jaxloco.envs.height_scan import HeightScan, ground_quantities
from jaxloco.envs.interface import ANY_ENGINE, Info, PolicyInterface, Pose
from jaxloco.envs.memories import Memories, Remembered
from jaxloco.envs.observations import ObservationGroup, ObservationTerm, Observer, ObserverState
from jaxloco.envs.perturbations import Pushes, PushState, Support
from jaxloco.envs.quantities import Quantity, QuantityTable, Snapshot, Values, standard_quantities
from jaxloco.envs.randomization import InitialState, RandomizedModel, Randomizer
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.terminations import TerminationTerm
from jaxloco.envs.terms import Bound, bind
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.onboard.spec import GAIT_CLOCK, InputSpec, OutputSpec, Stage
from jaxloco.physics import Controls, PhysicsSpec, PhysicsState, make_physics
from jaxloco.physics.contract import OVERFLOW, ModelParams, OnDevice, Readings
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot, load_robot
from jaxloco.self_contact import Overlaps
from jaxloco.symmetry import MirrorOf
from jaxloco.terrain import Terrain, make_grid

OUTCOME = ("terminated", "elapsed")
"""What the curriculum's grade may take beside quantities."""

MOST_STEPS = 1_000_000
"""Of an episode; a video of its robots keeps every one."""

IN_SIGHT = 5.0
"""How far terrain is drawn around a robot, m: drawing all of it is slow."""

_KEY = jax.ShapeDtypeStruct((2,), np.uint32)
"""Shape of a random key."""

NO_PUSHES = Pushes(Range(0.0, 0.0), Range(1.0, 1.0), Range(1e6, 1e6))


@dataclass(frozen=True)
class ActionSpec:
    """From actions in [-1, 1] to joints.

    Attributes:
        outputs: What the pipeline gives, by name, with unit, limits and safe value.
        pipeline: Stages, run by the simulator and by the robot.
        drive: From the pipeline's result to actuator inputs, for a robot.
        mirror: How actions change when left and right swap; see `Quantity`.
    """

    outputs: tuple[OutputSpec, ...]
    pipeline: tuple[Stage, ...]
    drive: Callable[[Robot], Drive]
    mirror: str | MirrorOf = ""

    @property
    def size(self) -> int:
        """Number of action components."""
        return sum(output.size for output in self.outputs)


@dataclass(frozen=True)
class EnvSpec:
    """A task, as data.

    Attributes:
        robot: Name of a robot, or path of its folder.
        variant: Which of the robot's variants; None for the one that is trained on.
        action: From actions to joints.
        observations: Groups "actor" and, if the critic sees something else, "critic".
        rewards: Summands of the reward per second.
        terminations: Reasons to end an episode in failure.
        episode_seconds: Time after which an episode is truncated.
        training_seconds: Episode length in training, s, if shorter: then a good policy meets more initial states.
            Each training episode then lasts between half of it and all of it, so that resets are spread over time.
        reward_floor: Least sum of the weighted terms, 1/s: with 0, no step is worth less than the end of the episode.
        quantities: Entries that this task adds to the table.
        memories: Entries that depend on the past, beside those of feet and joints.
        gait: Clock that tells when each foot should swing.
        motor_curves: Hold the motors to their torque–speed curves, beside their torque limits, where robot.toml names
            no actuator.
        commands: Commands that the robot is to follow.
        actuation: Delay and bandwidth of the motors.
        initial_state: Distribution of the initial state.
        randomization: How the model differs from episode to episode.
        pushes: External forces.
        support: What holds the base upright early in a training.
        curriculum: How ranges grow, and levels of terrain.
        terrain: What the robot stands on.
        scan: Where the heights of the ground are measured, for the quantity `height_scan`.
    """

    robot: str
    action: ActionSpec
    observations: Mapping[str, ObservationGroup]
    rewards: tuple[RewardTerm, ...]
    terminations: tuple[TerminationTerm, ...]
    episode_seconds: float
    variant: str | None = None
    training_seconds: float | None = None
    reward_floor: float | None = None
    quantities: tuple[Quantity, ...] = ()
    memories: tuple[Remembered, ...] = ()
    gait: Gait | None = None
    motor_curves: bool = False
    commands: tuple[Command, ...] = ()
    actuation: Actuation = field(default_factory=Actuation)
    initial_state: InitialState = field(default_factory=InitialState)
    randomization: tuple[Randomizer, ...] = ()
    pushes: Pushes | None = None
    support: Support | None = None
    curriculum: Curriculum = field(default_factory=Curriculum)
    terrain: Terrain = field(default_factory=Terrain)
    scan: HeightScan = field(default_factory=HeightScan)

    def build(self, engine: str = "auto") -> "Env":
        """Build the environment on a physics engine."""
        return Env(self, "native" if engine == ANY_ENGINE else engine)  # native runs anywhere and compiles fastest


class EnvState(NamedTuple):
    """The state of one robot's episode, and the results of the last step."""

    physics: PhysicsState
    params: ModelParams
    draws: dict[str, jax.Array]
    pipeline: tuple[jax.Array, ...]
    actuation: ActuationState
    push: PushState
    commands: dict[str, CommandState]
    clock: ClockState | None
    memories: dict[str, jax.Array]
    observers: dict[str, ObserverState]
    curriculum: CurriculumState
    action: jax.Array
    previous_action: jax.Array
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
        _check_names(spec)
        self._motors = motors_of(self.robot, spec.motor_curves)
        self._randomized = RandomizedModel(self.robot, spec.randomization, self._motors)
        self._drive = spec.action.drive(self.robot)
        _check_sizes(spec.action, self._drive)
        remembered = (*foot_memories(self.robot), *spec.memories)
        self.quantities = QuantityTable(
            (
                *standard_quantities(self.robot, self.ground),
                *foot_quantities(self.robot, self.ground),
                *ground_quantities(self.robot, self.ground, spec.scan),
                *(spec.gait.quantities(self.robot) if spec.gait else ()),
                *self._own_quantities(),
                *(memory.quantity() for memory in remembered),
                *spec.quantities,
            )
        )
        self._rewards = [self._bind(t.name, t.function, t.inputs, t.constants, OUTCOME[:1]) for t in spec.rewards]
        self._weights = np.array([term.weight for term in spec.rewards], np.float32)
        self._terminations = [self._bind(t.name, t.function, t.inputs, t.constants) for t in spec.terminations]
        self._grade = self._bind("curriculum grade", spec.curriculum.grade, {}, spec.curriculum.constants, OUTCOME)
        self._check_observations()
        self._memories = Memories(remembered, self.quantities, self._used())
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
        return self.spec.curriculum

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
        return {name: state.draws[name] for name in (LEVEL, KIND) if name in state.draws}

    def measure(self, state: EnvState) -> jax.Array:
        """Return what the actor reads, before noise and delay, (frame_size,)."""
        return state.observers["actor"].readings[0]

    def pose(self, before: EnvState, after: EnvState) -> Pose:
        """Return positions after a step and the force during it."""
        return Pose(after.physics.qpos, before.push.force * (before.push.wait <= 0.0))

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

    @property
    def fed_back(self) -> frozenset[str]:
        """Quantities that the policy computed in the last step: its action and its outputs."""
        clock = {GAIT_CLOCK} if self.spec.gait else set()
        return frozenset({"last_action", *(output.name for output in self.spec.action.outputs), *clock})

    def feedback(self, action: jax.Array, target: jax.Array, clock: Clock | None) -> dict[str, jax.Array]:
        """Return the quantities in `fed_back` by name.

        Args:
            action: The last one, (n_action,).
            target: What the pipeline made of it, (n_action,).
            clock: What the gait clock shows; None without a gait.
        """
        values, start = {"last_action": action}, 0
        if clock is not None:
            values[GAIT_CLOCK] = clock_reading(clock)
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
            clock_frequency=self.spec.gait.frequency if self.spec.gait else None,
            rest=self.spec.gait.rest if self.spec.gait else None,
        )

    def _input(self, term: ObservationTerm, size: int) -> InputSpec:
        quantity = self.quantities[term.quantity]
        if not quantity.measurable:
            raise ConfigError(
                f"the actor reads {term.quantity!r}, which robot {self.robot.name!r} cannot measure; "
                'move it to the group "critic"'
            )
        source = "policy" if term.quantity in self.fed_back else "sensor"
        commands = {command.name for command in self.spec.commands}
        of_joints = quantity.frame == "joint" and size == len(self.robot.joints)
        return InputSpec(
            name=term.quantity,
            unit=quantity.unit,
            size=size,
            scale=term.scale,
            clip=term.clip,
            low=term.low,
            high=term.high,
            source="command" if term.quantity in commands else source,
            components=self.robot.joint_names if of_joints else (),
            frequency=self.spec.gait.frequency if self.spec.gait and term.quantity == GAIT_CLOCK else None,
        )

    # Construction

    def _steps(self, name: str, seconds: float) -> int:
        if not abs(seconds) <= MOST_STEPS * self.dt:
            raise ConfigError(f"{name} {seconds}: must be a finite time, at most {MOST_STEPS * self.dt:g} s")
        steps = round(seconds / self.dt)
        if steps < 1:
            raise ConfigError(f"{name} {seconds}: shorter than one control period ({self.dt} s)")
        return steps

    def _own_quantities(self) -> tuple[Quantity, ...]:
        entries, start = [], 0
        for output in self.spec.action.outputs:
            part = start if output.size == 1 else slice(start, start + output.size)
            entries.append(Quantity(output.name, output.unit, "", True, partial(_target_part, part)))
            start += output.size
        for command in self.spec.commands:
            value = partial(_command, command.name)
            entries.append(Quantity(command.name, command.unit, "", True, value, mirror=command.mirror))
        for name in ("action_delay", "actuator_time_constant"):
            entries.append(Quantity(name, "s", "", False, partial(_draw, name), mirror="even"))
        return tuple(entries)

    def _bind(
        self, name: str, function: Callable, inputs: Mapping, constants: Mapping, more: tuple[str, ...] = ()
    ) -> Bound:
        known = (*self.quantities.names, *more)
        return bind(function, known, what=f"term {name!r}", inputs=inputs, constants=constants)

    def _check_observations(self) -> None:
        groups = self.spec.observations
        for name, group in groups.items():
            if name not in ("actor", "critic"):
                raise unknown_name("observation group", name, ("actor", "critic"))
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
        """Return what the pipeline makes of no action after a reset, (n_action,)."""
        stages, still = self.spec.action.pipeline, jnp.zeros(self.action_size)
        start = actions.initial_state(stages, self.action_size)
        return actions.apply(stages, start, still, self._show(self._first_clock()))[1]

    # The gait clock

    def _first_clock(self) -> ClockState | None:
        return clocks.start(self.spec.gait.rest) if self.spec.gait else None

    def next_clock(self, state: EnvState) -> ClockState | None:
        """Return the clock in the next step, by the command in this one and, without noise, how the robot is tilted."""
        if self.spec.gait is None or state.clock is None:
            return None
        rest, inputs = self.spec.gait.rest, {name: command.value for name, command in state.commands.items()}
        if rest is not None and rest.gravity is not None:
            inputs[rest.gravity] = self.quantities[rest.gravity].function(state)
        return clocks.step(state.clock, self.dt, self.spec.gait.frequency, rest, inputs)

    def _show(self, state: ClockState | None) -> Clock | None:
        if self.spec.gait is None or state is None:
            return None
        return clocks.show(state, self.dt, self.spec.gait.frequency)

    def _used(self) -> set[str]:
        """Return the quantities that observations, rewards, terminations and the curriculum take."""
        used = {term.quantity for group in self.spec.observations.values() for term in group.terms}
        for bound in (*self._rewards, *self._terminations, self._grade):
            used |= set(bound.sources.values())
        return used - set(OUTCOME)

    def _physics_spec(self) -> PhysicsSpec:
        base = self.robot.base_body
        push_body = self.robot.model.body(base).id if base is not None else 1
        return PhysicsSpec(
            model=self.robot.model,
            substeps=self.robot.substeps,
            fields=self._randomized.fields,
            readings=self.quantities.readings(self._used() | self._memories.sources),
            push_body=push_body,
            motors=self._motors,
        )

    def _make_observers(self) -> dict[str, Observer]:
        used = {term.quantity for group in self.spec.observations.values() for term in group.terms}

        def evaluate(key: jax.Array) -> dict[str, jax.Array]:
            snapshot = self._first_snapshot(self._sampler(key, FULL))[0]
            values = self.quantities.at(snapshot)
            return {name: values[name] for name in used}

        shapes = jax.eval_shape(evaluate, _KEY)
        sizes = {name: int(np.prod(value.shape)) for name, value in shapes.items()}
        groups = self.spec.observations.items()
        return {name: Observer(name, group, sizes, self.dt, self.fed_back) for name, group in groups}

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
        sampler = self._sampler(key_draws, curriculum)
        snapshot, push, commands = self._first_snapshot(sampler)
        draws = dict(snapshot.draws)
        for observer in self.observers.values():
            draws |= observer.draw(sampler)
        values = self.quantities.at(snapshot._replace(draws=draws))
        observers = {name: observer.start(values, draws, sampler) for name, observer in self.observers.items()}
        zero = jnp.float32(0.0)
        return EnvState(
            physics=snapshot.physics,
            params=snapshot.params,
            draws=draws,
            pipeline=actions.initial_state(self.spec.action.pipeline, self.action_size),
            actuation=self.spec.actuation.start(snapshot.target, self.dt),
            push=push,
            commands=commands,
            clock=self._first_clock(),
            memories=dict(snapshot.memories),
            observers=observers,
            curriculum=curriculum,
            action=snapshot.action,
            previous_action=snapshot.action,
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
            `truncated` that time or the terrain ran out.
        """
        key = jax.random.fold_in(state.key, state.step)
        return self._step(state, jnp.clip(action, -1.0, 1.0), self._sampler(key, state.curriculum, numbers=numbers))

    def _step(self, state: EnvState, action: jax.Array, sampler: Sampler) -> EnvState:
        push, force = (self.spec.pushes or NO_PUSHES).step(state.push, sampler, self.dt)
        stages, clock = self.spec.action.pipeline, self.next_clock(state)
        pipeline, target = actions.apply(stages, state.pipeline, action, self._show(state.clock))
        actuation, acting = self.spec.actuation.step(state.actuation, target, state.draws, self.dt)
        controls = Controls(self._drive(acting), jnp.concatenate([force, self._supporting(state)]))
        physics, readings, finite = self._advance(state, controls)
        commands = {
            command.name: command.step(state.commands[command.name], sampler, self.dt) for command in self.spec.commands
        }
        step = state.step + 1
        snapshot = Snapshot(
            physics=physics,
            readings=readings,
            params=state.params,
            draws=state.draws,
            action=action,
            previous_action=state.action,
            target=target,
            push=force,
            commands={name: command.value for name, command in state.commands.items()},
            memories=state.memories,
            time=step.astype(jnp.float32) * self.dt,
            clock=self._show(clock),
        )
        values = self.quantities.at(snapshot)
        terms, reward, ends = self._judge(values, finite)
        seen = self._with_commands(values, commands)
        observers = {
            name: observer.step(state.observers[name], seen, state.draws, sampler)
            for name, observer in self.observers.items()
        }
        terminated = jnp.any(ends) | ~finite
        off_terrain = self.ground.is_off(physics.qpos[self._base])
        outcome = {"terminated": terminated, "elapsed": step / state.limit}
        grade = _scalar("curriculum grade", self._grade(ChainMap(outcome, values)), jnp.int32)  # type: ignore[arg-type]
        return state._replace(
            physics=physics,
            pipeline=pipeline,
            actuation=actuation,
            push=push,
            commands=commands,
            clock=clock,
            memories=self._memories.update(values),
            observers=observers,
            action=action,
            previous_action=state.action,
            step=step,
            observation=self._observation(observers),
            reward=reward,
            terminated=terminated,
            truncated=((step >= state.limit) | off_terrain) & ~terminated,
            info=Info(
                reward_terms=terms,
                terminations=ends,
                nonfinite=~finite,
                off_terrain=off_terrain,
                grade=grade,
                episode_return=state.info.episode_return + reward,
                episode_length=state.info.episode_length + 1,
                overflow=readings.get(OVERFLOW),
            ),
        )

    def _with_commands(self, values: Values, commands: Mapping[str, CommandState]) -> Values:
        """Return the quantities with the commands that the policy sees next, and is judged by from then on."""
        if not commands:
            return values
        following = {name: command.value for name, command in commands.items()}
        return self.quantities.at(values.snapshot._replace(commands=following))

    def _supporting(self, state: EnvState) -> jax.Array:
        """Return the torque that holds the base upright, world frame, (3,), N m."""
        support = self.spec.support
        if support is None:
            return jnp.zeros(3)
        orientation = state.physics.qpos[self.robot.base_qpos_indices[3:]]
        angular_velocity = state.physics.qvel[self.robot.base_qvel_indices[3:]]
        share = support.share(state.curriculum, self.spec.curriculum.progress_until)
        return share * support.torque(orientation, angular_velocity)

    def _sampler(self, key: jax.Array, curriculum: CurriculumState, numbers: jax.Array | None = None) -> Sampler:
        block = 128 if numbers is None else numbers.shape[0]
        return Sampler(key, curriculum, self.spec.curriculum.progress_until, block=block, numbers=numbers)

    def _first_snapshot(self, sampler: Sampler) -> tuple[Snapshot, PushState, dict[str, CommandState]]:
        """Draw the model, the state and all else of a new episode but the observers' share."""
        params = self.physics.complete(self._randomized.draw(self._nominal, sampler))
        tile = self.ground.tile(sampler.curriculum)
        qpos, qvel = self.spec.initial_state.draw_on(self.robot, self.ground, tile, sampler)
        physics, readings = self.physics.reset(params, qpos, qvel)
        commands = {command.name: command.draw(sampler) for command in self.spec.commands}
        still = jnp.zeros(self.action_size)
        snapshot = Snapshot(
            physics=physics,
            readings=readings,
            params=params,
            draws={**self.spec.actuation.draw(sampler), **tile},
            action=still,
            previous_action=still,
            target=self._first_target(),
            push=jnp.zeros(3),
            commands={name: command.value for name, command in commands.items()},
            memories={},
            time=jnp.float32(0.0),
            clock=self._show(self._first_clock()),
        )
        snapshot = snapshot._replace(memories=self._memories.start(self.quantities.at(snapshot)))
        return snapshot, (self.spec.pushes or NO_PUSHES).start(sampler), commands

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
        judged = ChainMap({"terminated": jnp.any(ends)}, values)  # type: ignore[arg-type]
        rewards = zip(self.spec.rewards, self._rewards, strict=True)
        terms = jnp.stack([_scalar(f"reward {spec.name!r}", term(judged), jnp.float32) for spec, term in rewards])
        terms = jnp.where(finite, terms, 0.0)
        rate = terms @ self._weights
        if self.spec.reward_floor is not None:
            rate = jnp.maximum(rate, jnp.float32(self.spec.reward_floor))
        return terms, rate * jnp.float32(self.dt), ends

    def _observation(self, observers: dict[str, ObserverState]) -> dict[str, jax.Array]:
        return {name: self.observers[name].observation(state) for name, state in observers.items()}


def scene(robot: Robot, ground: Ground, qpos: np.ndarray) -> mujoco.MjModel:
    """Return a model to draw configurations of a robot with, (frames, nq): of terrain only what is near them."""
    if not isinstance(ground, GridGround):
        return robot.visual_model
    points = np.asarray(qpos, float)[:, robot.base_qpos_indices[:2]]
    window = ground.grid.window(points.min(axis=0) - IN_SIGHT, points.max(axis=0) + IN_SIGHT)
    return load_robot(robot.folder, robot.variant, window).visual_model


def robot_on_ground(spec: EnvSpec) -> tuple[Robot, Ground]:
    """Load the robot with its terrain in its model."""
    robot = load_robot(spec.robot, spec.variant)
    if not spec.terrain.kinds:
        return robot, FLAT
    if robot.base_body is None:
        raise ConfigError(
            f"robot {robot.name!r} is fixed to the world, so it has no use for terrain; write no kinds of it"
        )
    footprint = standing_feet(robot)[:, :2]
    grid = make_grid(spec.terrain)
    return load_robot(spec.robot, spec.variant, grid), GridGround(spec.terrain, grid, footprint)


def _check_names(spec: EnvSpec) -> None:
    """Check that names are unique: metrics are named after them."""
    if not spec.rewards:
        raise ConfigError("a task needs at least one reward term; RewardTerm('alive', constant, 1.0) is the simplest")
    for kind in ("rewards", "terminations", "commands"):
        names = [term.name for term in getattr(spec, kind)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{kind} {twice}: each name may stand once; rename all but one")


def _check_sizes(action: ActionSpec, drive: Drive) -> None:
    """Every vector of the action pipeline must have one entry per action component, or a single one for all."""
    size = action.size
    for stage in action.pipeline:
        for name, entry in vars(stage).items():
            if isinstance(entry, tuple) and len(entry) not in (1, size):
                what = f"{type(stage).__name__}.{name}"
                raise ConfigError(f"{what} has {len(entry)} entries, but the outputs have {size} components")
    if drive.matrix.shape != (len(drive.offset), size):
        raise ConfigError(
            f"the drive's matrix has shape {drive.matrix.shape}, but there are {len(drive.offset)} joints and the "
            f"outputs have {size} components: it must be {(len(drive.offset), size)}"
        )


def _scalar(what: str, value: jax.Array, dtype: Any) -> jax.Array:
    array = jnp.asarray(value, dtype)
    if array.shape != ():
        raise ConfigError(f"{what} gives an array of shape {array.shape}, but must give one number: sum it, or any()")
    return array


def _target_part(part: int | slice, snapshot: Snapshot) -> jax.Array:
    return snapshot.target[part]


def _command(name: str, snapshot: Snapshot) -> jax.Array:
    return snapshot.commands[name]


def _draw(name: str, snapshot: Snapshot) -> jax.Array:
    return snapshot.draws[name]
