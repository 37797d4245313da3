"""Which environment ids can be run, and how their readings and outputs are named."""

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.onboard.clients import joints, ros2, unitree, upkie
from jaxloco.onboard.loop import Client
from jaxloco.onboard.spec import PolicySpec

MakeClient = Callable[[str, PolicySpec, Mapping[str, Any], int | None], Client]
"""Makes a client from environment id, policy, keyword arguments for the environment, and seed."""


@dataclass(frozen=True)
class ClientMapping:
    """How environments whose id matches `pattern` are run.

    Attributes:
        pattern: Pattern of environment ids, with `*` for any text.
        robot: Name of the robot; a bundle for another robot is refused. None for one that fits any.
        inputs: The readings that the client gives: name → unit.
        outputs: The outputs that the client takes: name → unit.
        make: Makes the client.
        is_real_time: Whether an environment with this id is a robot; a simulator runs as fast as it goes.
        optional: Outputs that a policy may lack; it has at least one.
    """

    pattern: str
    robot: str | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    make: MakeClient
    is_real_time: Callable[[str], bool]
    optional: frozenset[str] = frozenset()


_MAPPINGS: list[ClientMapping] = [
    ClientMapping(
        pattern=f"{robot.capitalize()}-*-{name}",
        robot=robot,
        inputs=kind.inputs,
        outputs=kind.outputs,
        make=upkie.make_client,
        is_real_time=upkie.is_real_time,
        optional=kind.optional,
    )
    for robot in ("upkie", "cookie")
    for name, kind in upkie.ENVIRONMENTS.items()
]

CLIENTS: dict[str, tuple[str | None, MakeClient]] = {
    **{name: (robot, unitree.make_client) for name, robot in unitree.ROBOTS.items()},
    "ros2": (None, ros2.make_client),
}
"""Robots with motors that take targets and gains → name in a bundle, and what connects to them."""

_MAPPINGS += [
    ClientMapping(name, robot, joints.INPUTS, joints.OUTPUTS, make, lambda _: True, frozenset(joints.OUTPUTS))
    for name, (robot, make) in CLIENTS.items()
]


def register(mapping: ClientMapping) -> None:
    """Add a mapping; it goes before those that are there."""
    _MAPPINGS.insert(0, mapping)


def known_patterns() -> list[str]:
    """Return the patterns of environment ids that can be run."""
    return [mapping.pattern for mapping in _MAPPINGS]


def find(env_id: str) -> ClientMapping:
    """Return the mapping for an environment id.

    Raises:
        UnknownNameError: There is none; the message names the known patterns and how to add one.
    """
    for mapping in _MAPPINGS:
        if fnmatch.fnmatchcase(env_id, mapping.pattern):
            return mapping
    raise UnknownNameError(
        f"no client mapping for the environment {env_id!r}. Known: {', '.join(known_patterns())}. "
        "To add one: jaxloco.onboard.clients.register(ClientMapping(...)), see docs/onboard.md"
    )


def check_fits(spec: PolicySpec, mapping: ClientMapping) -> None:
    """Check that a policy can be run with a mapping: same robot, names and units.

    Raises:
        ConfigError: They differ; the message says in what.
    """
    if mapping.robot not in (None, spec.robot):
        raise ConfigError(f"{mapping.pattern} is the robot {mapping.robot!r}, the bundle is for {spec.robot!r}")
    given = {item.name: item.unit for item in spec.inputs if item.source != "policy"}
    for name, unit in given.items():
        if name not in mapping.inputs:
            known = ", ".join(mapping.inputs)
            raise ConfigError(f"{name!r}: read by the policy, {mapping.pattern} gives only: {known}")
        if mapping.inputs[name] != unit:
            found = mapping.inputs[name]
            raise ConfigError(f"{name!r}: the policy reads {unit!r}, {mapping.pattern} gives {found!r}")
    outputs = {item.name: item.unit for item in spec.outputs}
    taken = dict(mapping.outputs)
    required = {name: unit for name, unit in taken.items() if name not in mapping.optional}
    if not required.items() <= outputs.items() <= taken.items():
        raise ConfigError(f"the policy's outputs are {outputs}, {mapping.pattern} takes {taken}")
