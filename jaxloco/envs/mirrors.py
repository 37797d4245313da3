"""The mirror of observations and actions, from the mirror that each quantity declares.

A robot that is its own mirror image may do, mirrored, in the mirrored situation what it does here. Every quantity names
its kind of mirror image; joints and feet pair by name (`jaxloco.symmetry`), so no index is ever written by hand.
"""

from collections.abc import Callable

import numpy as np

from jaxloco.envs.env import Env
from jaxloco.envs.interface import Environment
from jaxloco.errors import ConfigError, RobotError, unknown_name
from jaxloco.reflections import Reflection, Symmetry
from jaxloco.robot import Robot
from jaxloco.symmetry import Mirror, MirrorOf, foot_mirror, joint_mirror

_POLAR, _AXIAL, _PLANAR = (1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, -1.0, -1.0)


def _signs(signs: tuple[float, ...]) -> Callable[[Robot], Mirror]:
    return lambda _: Mirror(np.arange(len(signs)), np.array(signs))


def _vectors_of_feet(robot: Robot) -> Mirror:
    feet = foot_mirror(robot)
    places = 3 * feet.permutation[:, None] + np.arange(3)
    return Mirror(places.ravel(), np.tile(_POLAR, len(feet.permutation)))


MIRRORS: dict[str, MirrorOf] = {
    "even": _signs((1.0,)),
    "odd": _signs((-1.0,)),
    "polar": _signs(_POLAR),
    "axial": _signs(_AXIAL),
    "planar": _signs(_PLANAR),
    "joints": joint_mirror,
    "feet": foot_mirror,
    "polar of feet": _vectors_of_feet,
}
"""Kinds of mirror images.

- even: numbers that stay (heights, masses, pitch); odd: numbers that change sign (roll; sine and cosine of a clock that
  left and right share half a cycle apart);
- polar: vectors in the base frame (velocities, forces); axial: pseudovectors in it (angular velocities);
- planar: (forward, leftward, yaw rate); joints, feet: one number each; polar of feet: a vector for each foot.

An action and a target have the kind that their task says ("joints", for one target per joint).
"""


def symmetry_of(env: Environment, fed: tuple[str, ...] = ()) -> Symmetry:
    """Return how the observations and actions of an environment mirror.

    Args:
        env: The environment.
        fed: Groups that the actor reads behind its own.

    Raises:
        ConfigError: A quantity or the action does not say how it mirrors, or left and right feet do not take turns.
        RobotError: The robot's left and right do not pair.
    """
    if not isinstance(env, Env):
        raise ConfigError(
            f"{env.origin} does not say how its observations mirror; train it with --ppo.symmetry none, or write the "
            "task in jaxloco's terms (docs/environments.md)"
        )
    try:
        return _symmetry(env, fed)
    except RobotError as error:
        raise RobotError(f"{error}; or train it as it is, with --ppo.symmetry none") from error


def _symmetry(env: Env, fed: tuple[str, ...]) -> Symmetry:
    spec = env.spec.action
    action = _vector("action", spec.mirror, env, spec.size)
    target = action if spec.output_mirror is None else _vector("target", spec.output_mirror, env, spec.output_size)
    given = {"action": action, "target": target}
    _check_default_pose(env.robot)
    for process in env.spec.processes:
        process.check_mirror(env.robot)
    observations = {}
    for group, observer in env.observers.items():
        parts = []
        for term, size in zip(observer.group.terms, observer.sizes, strict=True):
            kind = env.quantities[term.quantity].mirror
            known = given.get(kind) if isinstance(kind, str) else None
            parts.append(known or _vector(f"quantity {term.quantity!r}", kind, env, size))
        observations[group] = _joined(parts * observer.group.history)
    critic = observations.get("critic", observations["actor"])
    return Symmetry(_joined([observations[group] for group in ("actor", *fed)]), critic, action)


def _vector(what: str, kind: str | MirrorOf, env: Env, size: int) -> Reflection:
    mirror = _of_kind(what, kind, env.robot) if isinstance(kind, str) else kind(env.robot)
    unit = len(mirror.permutation)
    if size % unit:
        raise ConfigError(f"{what} has {size} components, but its mirror {kind!r} is for {unit}")
    one = Reflection(tuple(mirror.permutation.tolist()), tuple(mirror.sign.tolist()))
    return _joined([one] * (size // unit))


def _of_kind(what: str, kind: str, robot: Robot) -> Mirror:
    if not kind:
        raise ConfigError(
            f"{what} does not say how it changes when left and right swap: give it mirror = one of "
            f"{', '.join(repr(known) for known in MIRRORS)}, or train without a mirror"
        )
    if kind not in MIRRORS:
        raise unknown_name(f"mirror of {what}", kind, MIRRORS)
    return MIRRORS[kind](robot)


def _joined(parts: list[Reflection]) -> Reflection:
    permutation: list[int] = []
    sign: list[float] = []
    for part in parts:
        permutation += [len(sign) + index for index in part.permutation]
        sign += part.sign
    return Reflection(tuple(permutation), tuple(sign))


def _check_default_pose(robot: Robot) -> None:
    """Offsets and actions are relative to the default pose, which must be its own mirror image."""
    pose = robot.default_qpos[np.asarray(robot.joint_qpos_indices)]
    mirrored = joint_mirror(robot)(pose)
    worst = int(np.argmax(np.abs(mirrored - pose)))
    if abs(mirrored[worst] - pose[worst]) > 1e-6:
        raise ConfigError(
            f"robot {robot.name!r}: the default of joint {robot.joint_names[worst]!r} is {pose[worst]:g}, but that of "
            f"its mirror image asks for {mirrored[worst]:g}; make the default pose symmetric, or train without a mirror"
        )
