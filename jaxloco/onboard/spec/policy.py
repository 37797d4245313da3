"""Everything about a policy but its numbers, and its schema."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from jaxloco.errors import BundleError
from jaxloco.onboard.cells import MLP
from jaxloco.onboard.spec.fields import (
    MAX_HISTORY,
    MAX_SIZE,
    Checked,
    Name,
    Positive,
    Text,
    build,
    fail,
    fields_of,
    integer,
    mapping,
    plain,
    show,
)
from jaxloco.onboard.spec.networks import NetworkSpec, NormalizerSpec
from jaxloco.onboard.spec.ports import InputSpec, OutputSpec
from jaxloco.onboard.spec.signals import (
    FOOT_FREQUENCIES,
    FOOT_PHASES,
    GAIT_CLOCK,
    GAIT_FREQUENCY,
    LAST_ACTION,
    MOTION_JOINTS,
    MOTION_ORIENTATION,
    MOTION_VELOCITIES,
    MotionSpec,
    Rest,
)
from jaxloco.onboard.spec.stages import Cycle, Delay, Follow, FootTrajectories, Stage, widths

SCHEMA_NAME = "jaxloco-policy"
SCHEMA_VERSION = 2
SCHEMA = f"{SCHEMA_NAME}/{SCHEMA_VERSION}"
FEED_FORWARD_SCHEMA = f"{SCHEMA_NAME}/1"
"""Schema of policies without memory, estimator, generator of foot trajectories, motion and readings from outside the
robot; every jaxloco reads it."""

MAX_DELAYED = 1_000_000
"""Numbers that all delays of a pipeline keep together."""


@dataclass(frozen=True)
class PolicySpec(Checked):
    """Everything about a policy but its numbers.

    Attributes:
        robot: Name of the robot.
        task: Name of the task it was trained on.
        control_frequency: Steps per second, Hz.
        inputs: The inputs, in the order of the frame.
        network: The network; its first layer reads `history` frames.
        outputs: The outputs, in the order of the action vector.
        history: Number of frames the network sees, oldest first.
        normalizer: Normalization of the stacked frames, or None.
        pipeline: What turns the action in [-1, 1] into outputs in SI units.
        rest: When the clock rests; None for a clock that always runs, and for policies without one.
        motion: Clips that the policy tracks; None for other policies.
        jaxloco: Version of jaxloco that wrote the bundle.
        provenance: Where the policy came from: configuration, versions, checkpoint step, evaluation.
    """

    robot: Name
    task: Name
    control_frequency: Positive
    inputs: tuple[InputSpec, ...]
    network: NetworkSpec
    outputs: tuple[OutputSpec, ...]
    history: Annotated[int, integer(1, MAX_HISTORY)] = 1
    normalizer: NormalizerSpec | None = None
    pipeline: tuple[Stage, ...] = ()
    rest: Rest | None = None
    motion: MotionSpec | None = None
    jaxloco: Text = ""
    provenance: Annotated[Mapping[str, Any], mapping] = field(default_factory=dict, compare=False)

    def _check(self) -> None:
        self._check_names()
        self._check_numbers()
        self._check_rest()
        self._check_motion()

    def _check_motion(self) -> None:
        """Check that what a motion depends on is an input, and that what depends on one has it."""
        if self.motion is None:
            if any(isinstance(stage, Follow) for stage in self.pipeline):
                raise fail("motion", "clips for the stage 'follow'", None)
            return
        for key, source, size in (("choice", "command", len(self.motion.clips)), ("orientation", "sensor", 4)):
            known = [item.name for item in self.inputs if item.source == source and item.size == size]
            if getattr(self.motion, key) not in known:
                raise fail(f"motion.{key}", f"a {source} of {size} numbers, {known}", getattr(self.motion, key))

    def _check_rest(self) -> None:
        """Check that the clock that rests is there, is one, and that its command is an input."""
        if self.rest is None:
            return
        commands = [item.name for item in self.inputs if item.source == "command"]
        if self.rest.command not in commands:
            raise fail("rest.command", f"one of the commands {commands}", self.rest.command)
        vectors = [item.name for item in self.inputs if item.size == 3 and item.source == "sensor"]
        if self.rest.gravity is not None and self.rest.gravity not in vectors:
            raise fail("rest.gravity", f"one of the readings of three numbers {vectors}", self.rest.gravity)
        if len(self.frequencies) != 1:
            raise fail("rest", "one frequency of the clock and of all cycles", sorted(self.frequencies))

    @property
    def frequencies(self) -> set[float]:
        """Frequencies of the gait clock, of all cycles and of the generator, Hz."""
        clocks = {item.frequency for item in self.inputs if item.frequency is not None}
        return clocks | {stage.frequency for stage in self.pipeline if isinstance(stage, Cycle | FootTrajectories)}

    @property
    def generator(self) -> FootTrajectories | None:
        """The generator of foot trajectories; None without one."""
        first = self.pipeline[0] if self.pipeline else None
        return first if isinstance(first, FootTrajectories) else None

    def _check_names(self) -> None:
        for key, names in (
            ("inputs", [item.name for item in self.inputs]),
            ("outputs", [item.name for item in self.outputs]),
            ("the arrays", self.array_names),
        ):
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            if repeated:
                raise BundleError(f"{key}: expected different names, found {show(repeated[0])} twice")
        if not self.inputs or not self.outputs:
            raise BundleError("inputs, outputs: expected at least one each, found none")

    def _check_numbers(self) -> None:
        if self.observation_size > MAX_SIZE or self.action_size > MAX_SIZE:
            raise fail("history", f"at most {MAX_SIZE} numbers in all", self.observation_size)
        delayed = sum(stage.steps + 1 for stage in self.pipeline if isinstance(stage, Delay)) * self.output_size
        if delayed > MAX_DELAYED:
            raise fail("pipeline", f"delays of at most {MAX_DELAYED} numbers in all", delayed)
        own = self._own_sizes()
        for i, item in enumerate(self.inputs):
            if (item.source == "policy") != (item.name in own):
                expected = f'"policy" for {sorted(own)} and for nothing else'
                raise fail(f"inputs[{i}].source", expected, item.source)
            if item.source == "policy" and item.size != own[item.name]:
                raise fail(f"inputs[{i}].size", f"the size of {item.name!r}, {own[item.name]}", item.size)
        self._check_pipeline()

    def _own_sizes(self) -> dict[str, int]:
        """Return what the policy itself can fill in → number of components."""
        own = {LAST_ACTION: self.action_size, **{output.name: output.size for output in self.outputs}, GAIT_CLOCK: 2}
        if self.generator is not None:
            feet = len(self.generator.legs)
            own |= {FOOT_PHASES: 2 * feet, FOOT_FREQUENCIES: feet, GAIT_FREQUENCY: 1}
        if self.motion is not None:
            own |= {MOTION_JOINTS: self.output_size, MOTION_VELOCITIES: self.output_size, MOTION_ORIENTATION: 6}
        return own

    def _check_generator(self, stage: FootTrajectories, place: int) -> None:
        if place > 0:
            raise fail("kind", "foot_trajectories as the first stage alone", stage.kind)
        velocities = [item.name for item in self.inputs if item.source == "command" and item.size == 3]
        if stage.sweep is not None and stage.sweep not in velocities:
            raise fail("sweep", f"one of the commands of three numbers {velocities}", stage.sweep)

    def _check_pipeline(self) -> None:
        given = widths(self.pipeline, self.output_size)[1:]
        for i, (stage, size) in enumerate(zip(self.pipeline, given, strict=True)):
            try:
                if isinstance(stage, FootTrajectories):
                    self._check_generator(stage, i)
                stage.check_fits(size, self.control_frequency)
            except BundleError as error:
                raise BundleError(f"pipeline[{i}].{error}") from None

    @property
    def frame_size(self) -> int:
        """Number of values in one frame."""
        return sum(item.size for item in self.inputs)

    @property
    def observation_size(self) -> int:
        """Number of values that the network reads: history × frame."""
        return self.history * self.frame_size

    @property
    def output_size(self) -> int:
        """Number of values in all outputs together."""
        return sum(item.size for item in self.outputs)

    @property
    def action_size(self) -> int:
        """Number of values in the action vector; that of all outputs unless a stage takes others than it gives."""
        return widths(self.pipeline, self.output_size)[0]

    @property
    def array_names(self) -> list[str]:
        """Names of the arrays that `policy.npz` must hold, no more and no fewer."""
        names = [self.normalizer.mean, self.normalizer.std] if self.normalizer else []
        names += self.network.cell.arrays if self.network.cell else []
        names += [plan.states, plan.controls, plan.gains] if (plan := self.network.plan) else []
        for convolution in self.network.convolutions:
            names += [convolution.kernel, convolution.bias]
        estimator = self.network.estimator
        for layer in self.network.layers + (estimator.layers if estimator else ()):
            names += [layer.kernel, layer.bias]
        if self.motion is not None:
            names += [self.motion.joint_positions, self.motion.joint_velocities, self.motion.orientations]
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain JSON values, without the checksums that `write_bundle` adds."""
        data = {name: plain(getattr(self, name)) for name in fields_of(PolicySpec)}
        if self.rest is None:
            del data["rest"]  # so that a jaxloco that knows no rest can read it
        elif self.rest.gravity is None:
            del data["rest"]["gravity"], data["rest"]["tilt"]
        for name in ("cell", "convolutions", "estimator", "plan"):
            if not data["network"][name]:
                del data["network"][name]
        if self.motion is None:
            del data["motion"]
        outside = [item for item in self.inputs if item.source == "external"]
        beyond = (self.generator, self.network.estimator, self.motion, *outside)
        first = self.network.kind == MLP and all(part is None for part in beyond)
        return {"schema": FEED_FORWARD_SCHEMA if first else SCHEMA, **data}

    @classmethod
    def from_dict(cls, data: object) -> "PolicySpec":
        """Read a specification from parsed JSON.

        Args:
            data: What `to_dict` returns; "checksums" is ignored.

        Returns:
            The checked specification.

        Raises:
            BundleError: A key is missing, unknown or has a wrong value; the message names the key, what was
                expected and what was found.
        """
        check_schema(data)
        assert isinstance(data, dict)
        return build(cls, {key: value for key, value in data.items() if key not in ("schema", "checksums")}, "")


def check_schema(data: object) -> None:
    """Check that `data` is a policy of a version that this jaxloco reads.

    Raises:
        BundleError: It is something else, or of another version.
    """
    if not isinstance(data, dict):
        raise BundleError(f"expected an object, found {show(data)}")
    found = data.get("schema")
    match = re.fullmatch(SCHEMA_NAME + r"/([0-9]{1,9})", found) if isinstance(found, str) else None
    if match is None:
        raise fail("schema", SCHEMA, found)
    if int(match[1]) > SCHEMA_VERSION:
        raise BundleError(
            f"schema: this jaxloco reads {SCHEMA}, the bundle is {found}, from a newer jaxloco: "
            "install that one (pip install --upgrade jaxloco) or export the policy again with this one"
        )
    if int(match[1]) < 1:
        raise fail("schema", SCHEMA, found)
