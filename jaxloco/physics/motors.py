"""The motors of a whole robot: which actuators stand between the targets and the joints, and in which order.

Each joint has a chain of actuators (`jaxloco.physics.actuators`). The torque of one becomes the target with which the
joint's servo would give that torque, and the next one takes that target. So the last one's target is what the engine's
own servo gets, in each physics step: where no actuator changes anything, not a bit of it changes, and the engine's
implicit integration of the velocity gain stays. The functions work on NumPy and JAX arrays alike.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.errors import ConfigError, RobotError, short, told
from jaxloco.physics.actuators import ActuatedJoints, Actuator, Array, Servo, actuator_class, namespace, servo_target
from jaxloco.physics.actuators.curve import Curve
from jaxloco.robot import Joint, Robot
from jaxloco.toml_schema import Key, Table, TomlFile, check

State = tuple[tuple[tuple[Array, ...], ...], ...]
"""Of each actuator of each group."""

SERVO_FIELDS = ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange")
"""Model fields that the servos are in."""

SUPPLIES = ("curve", "dcmotor")
"""Actuators that take torque away at speed."""

_KIND = Key("text", "which actuator", '"lag"')


@dataclass(frozen=True, eq=False)
class Group:
    """Joints with the same chain.

    Attributes:
        joints: Their places in every joint vector.
        chain: Their actuators, from the target to the joint.
    """

    joints: np.ndarray
    chain: tuple[Actuator, ...]


@dataclass(frozen=True, eq=False)
class Motors:
    """The motors of a robot with nu of them.

    Attributes:
        groups: All joints, each in one group.
        rest: Targets in the default pose, (nu,).
        qpos: Index of each joint in qpos.
        qvel: Index of each joint in qvel.
        timestep: Physics step, s.
        parameters: Nominal parameters of all actuators, by `<actuator>_<parameter>`, (nu,); 0 where a joint has none.
    """

    groups: tuple[Group, ...]
    rest: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    timestep: float
    parameters: Mapping[str, np.ndarray]

    def init(self, dtype: Any = np.float32) -> State:
        """Return the state after a reset: the default targets were held since long before."""
        rest = self.rest.astype(dtype)
        return tuple(tuple(one.init(rest[group.joints]) for one in group.chain) for group in self.groups)

    def step(
        self, values: Mapping[str, Array], state: State, qpos: Array, qvel: Array, ctrl: Array
    ) -> tuple[State, Array]:
        """Return the next state, and what the engine's servos get in this physics step, (..., nu); see `run`."""
        return self.run(values, state, qpos, qvel, ctrl)[:2]

    def run(
        self, values: Mapping[str, Array], state: State, qpos: Array, qvel: Array, ctrl: Array
    ) -> tuple[State, Array, Array]:
        """Return what `step` does, and the torque that the supply took away, N m, (..., nu).

        Args:
            values: `SERVO_FIELDS` and all of `parameters`, as they are for this robot.
            state: As returned before, or by `init`.
            qpos: Positions, (..., nq).
            qvel: Velocities, (..., nv).
            ctrl: Targets of the control period, (..., nu).
        """
        gain, bias, limits = (values[name] for name in SERVO_FIELDS)
        servo = (gain[..., 0], bias[..., 0], bias[..., 1], bias[..., 2], limits[..., 1])
        moving = (ctrl, qpos[..., self.qpos], qvel[..., self.qvel])
        after, inputs, lost = [], [], []
        for group, states in zip(self.groups, state, strict=True):
            own = Servo._make([*(self._of(group, value) for value in servo), self.timestep])
            target, position, velocity = (self._of(group, value) for value in moving)
            ends, cut = [], 0.0 * target
            for one, before in zip(group.chain, states, strict=True):
                names = parameter_names(one)
                params = one.Params(own, *(self._of(group, values[name]) for name in names))
                end, torque = one.step(params, before, target, position, velocity)
                allowed = servo_target(own, target, torque, position, velocity)
                if one.name in SUPPLIES:
                    cut = own.gain * (target - allowed)
                target = allowed
                ends.append(end)
            after.append(tuple(ends))
            inputs.append(target)
            lost.append(cut)
        if len(self.groups) == 1:
            return tuple(after), inputs[0], lost[0]
        order = np.argsort(np.concatenate([group.joints for group in self.groups]))
        join = namespace(ctrl).concatenate
        return tuple(after), join(inputs, axis=-1)[..., order], join(lost, axis=-1)[..., order]

    def _of(self, group: Group, value: Array) -> Array:
        return value if len(self.groups) == 1 else value[..., group.joints]

    def values(self, model: mujoco.MjModel, given: Mapping[str, Array]) -> dict[str, Array]:
        """Return what `step` takes: from `given` where there, from the model and the nominal parameters elsewhere."""
        nominal = {name: getattr(model, name) for name in SERVO_FIELDS} | dict(self.parameters)
        return {name: given.get(name, value) for name, value in nominal.items()}

    @property
    def whole(self) -> np.ndarray:
        """Places of the joints whose actuator stands for the whole motor."""
        groups = [group.joints for group in self.groups if any(one.whole for one in group.chain)]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *groups]))

    def fingerprint(self) -> str:
        """Return a hash of all that a step depends on, the code included."""
        parts: list[Any] = [self.rest, self.qpos, self.qvel, self.timestep, *self.parameters.items()]
        for group in self.groups:
            parts += [group.joints, *((*_code(type(one)), one.digest) for one in group.chain)]
        return hashlib.sha256(repr([_plain(part) for part in parts]).encode()).hexdigest()


def parameter_names(actuator: Actuator) -> tuple[str, ...]:
    """Return the names of an actuator's parameters as randomizers know them, in the order of its `Params`."""
    return tuple(f"{actuator.name}_{field}" for field in actuator.Params._fields[1:])


def motors_of(robot: Robot, curves: bool = True) -> Motors | None:
    """Return the motors of a robot; None if each is an ideal servo, which an engine has of its own.

    Args:
        robot: The robot.
        curves: Whether joints whose `actuator` robot.toml leaves open are held to their torque–speed curves.

    Raises:
        UnknownNameError: There is no such actuator; names the closest one.
        RobotError: What robot.toml says of an actuator is wrong; says what to write.
    """
    chains = [_chain(robot, joint, curves) for joint in robot.joints]
    kinds = [tuple((kind, *_texts(settings)) for kind, settings in chain) for chain in chains]
    if not any(kinds):
        return None
    groups = [_group(robot, chains, np.flatnonzero([own == of for own in kinds])) for of in dict.fromkeys(kinds)]
    parameters: dict[str, np.ndarray] = {}
    for group in groups:
        for one in group.chain:
            for name, field in zip(parameter_names(one), one.Params._fields[1:], strict=True):
                parameters.setdefault(name, np.zeros(len(chains), np.float32))[group.joints] = one.parameters[field]
    indices = (robot.joint_qpos_indices, robot.joint_qvel_indices)
    rest = np.asarray(robot.default_ctrl, np.float32)
    return Motors(tuple(groups), rest, *indices, float(robot.model.opt.timestep), parameters)


def corners(robot: Robot) -> np.ndarray:
    """Return up to where each joint has its whole torque in simulation, rad/s, (nu,): at most its `corner_velocity`."""
    limit = np.array([joint.torque_limit for joint in robot.joints])
    joints = ActuatedJoints(
        robot.joints, {}, float(robot.model.opt.timestep), robot.model.dof_invweight0[robot.joint_qvel_indices]
    )
    curve = Curve(joints).parameters
    found: np.ndarray = np.maximum(curve["velocity_limit"] - limit / curve["slope"], 0.0)
    return found


def _chain(robot: Robot, joint: Joint, curves: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return kind and settings of each actuator of a joint; the ideal servo is what is there anyway."""
    parts = joint.actuator or ((("kind", "curve" if curves else "pd"),),)
    where, chain = f"{robot.folder / 'robot.toml'}: joint {joint.name!r}", []
    for part in map(dict, parts):
        kind = part.get("kind")
        try:
            schema = {"actuator": Table({"kind": _KIND, **actuator_class(str(kind)).settings})}
        except (ConfigError, RobotError) as error:
            raise type(error)(f"{where}: {error}") from None
        settings = check(TomlFile(Path(where), "", {"actuator": part}, RobotError), schema)["actuator"]
        chain.append((settings.pop("kind"), settings))
    twice = [kind for i, (kind, _) in enumerate(chain) if kind in [other for other, _ in chain[:i]]]
    if twice:
        raise RobotError(f"{where}: actuator {twice[0]!r} is there twice; remove one")
    whole = [kind for kind, _ in chain if actuator_class(kind).whole]
    if whole and len(chain) > 1:
        others = ", ".join(kind for kind, _ in chain if kind != whole[0])
        raise RobotError(
            f"{where}: actuator {whole[0]!r} stands for the whole motor, with its delay, friction and limits; "
            f"remove {others}, which would count twice"
        )
    return [part for part in chain if part[0] != "pd"]


def _group(robot: Robot, chains: Sequence[Sequence[tuple[str, dict[str, Any]]]], joints: np.ndarray) -> Group:
    """Make the actuators of joints with the same kinds."""
    of = tuple(robot.joints[i] for i in joints)
    timestep = float(robot.model.opt.timestep)
    mobility = robot.model.dof_invweight0[robot.joint_qvel_indices[joints]]
    made = []
    for stage, (kind, keys) in enumerate(chains[joints[0]]):
        settings = {key: np.array([chains[i][stage][1][key] for i in joints]) for key in keys}
        joints_of = ActuatedJoints(of, settings, timestep, mobility, robot.folder)
        made.append(_made(kind, joints_of, robot))
    return Group(joints, tuple(made))


def _made(kind: str, joints: ActuatedJoints, robot: Robot) -> Actuator:
    """Make an actuator; one with a memory is stepped once in each physics step, which RK4 evaluates four times."""
    toml = robot.folder / "robot.toml"
    try:
        one = actuator_class(kind)(joints)
        _try(one, joints)
    except RobotError as error:
        raise RobotError(f"{toml}: {error}") from None
    except Exception as error:  # of someone else's code
        raise RobotError(f"{toml}: actuator {kind!r}: its own code fails: {told(error)}") from error
    if robot.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 and one.init(np.zeros(len(joints.joints))):
        raise RobotError(
            f"{toml}: joint {joints.joints[0].name!r}: actuator {kind!r} has a memory, which RK4 would advance four "
            'times in each physics step; write integrator="implicitfast" in <option> of the model'
        )
    return one


def _try(actuator: Actuator, joints: ActuatedJoints) -> None:
    """Step an actuator once, in NumPy: nothing is compiled for one that cannot be."""
    n, cls = len(joints.joints), type(actuator).__name__
    fields = actuator.Params._fields[1:]
    missing = [name for name in fields if name not in actuator.parameters]
    if missing:
        raise RobotError(f"{cls}: parameter {missing[0]!r} has no value; give it one in `settings`, or in __init__")
    still, one = np.zeros(n), np.ones(n)
    servo = Servo(one, still, still, still, one, joints.timestep)
    before = actuator.init(still)
    params = actuator.Params(servo, *(actuator.parameters[name] for name in fields))
    with np.errstate(all="ignore"):
        result: Any = actuator.step(params, before, still, still, still)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RobotError(f"{cls}.step: expected the next state and the torques, found {short(repr(result))}")
    after, torque = result
    if _shapes(after) != _shapes(before):
        raise RobotError(
            f"{cls}.step: expected a state like that of init, with arrays of shapes {_shapes(before)}; found "
            f"{_shapes(after)}"
        )
    if np.shape(torque) != (n,):
        raise RobotError(f"{cls}.step: expected {n} torques, found an array of shape {np.shape(torque)}")


def _shapes(state: Any) -> list[tuple[int, ...]] | str:
    return [np.shape(array) for array in state] if isinstance(state, tuple) else short(repr(state))


def _texts(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings that are texts: joints that differ in these are not of one group."""
    return tuple(value for value in settings.values() if isinstance(value, str))


def _code(kind: type) -> tuple[str, str]:
    """Return name and source of an actuator's class, by which what is kept on disk is found."""
    source = Path(inspect.getfile(kind)).read_bytes()
    return f"{kind.__module__}:{kind.__qualname__}", hashlib.sha256(source).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
