"""Conditions in which a simulation differs from that of the training."""

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from jaxloco.checks import NOT_NEGATIVE, POSITIVE, Limits, check_fields
from jaxloco.errors import ConfigError

if TYPE_CHECKING:  # the command line reads these options without MuJoCo
    from jaxloco.robot import Robot

MOST_SECONDS, MOST_DELAY, MOST_ITERATIONS, MOST_SUBSTEPS = 10_000.0, 10_000.0, 1_000, 10_000
"""Length of an episode, s; a delay, ms; solver iterations; simulation steps of a control period."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of a simulation in plain MuJoCo; by default those of the robot's training model.

    Attributes:
        robot: Robot name or folder, if not the one that the bundle was trained with.
        robot_variant: One of the robot's [variants.<name>], for example full: another collision model.
        solver: Constraint solver.
        cone: Friction cone.
        iterations: Solver iterations.
        timestep: Simulation step, s.
        friction: Sliding friction of all contact pairs, in place of a drawn one too.
        delay: Added time until a target has effect, ms.
        latency: Added age of the readings, ms.
        noise: Factor on the training's noise and bias of each reading; 0 for none.
        push_scale: Factor on the training's pushes; 0 for none.
        randomize: Draw the model anew for each episode, as in training; a friction that is given stays.
        command: Fixed command, for example 1.0 0.0 0.0 for vx vy yaw rate; drawn as in training if not given.
        seconds: Length of an episode, s; the task's own if not given.
    """

    robot: str | None = None
    robot_variant: str | None = None
    solver: Literal["newton", "cg", "pgs"] | None = None
    cone: Literal["pyramidal", "elliptic"] | None = None
    iterations: Annotated[int | None, Limits(above=0.0, at_most=MOST_ITERATIONS)] = None
    timestep: Annotated[float | None, Limits(above=0.0, at_most=MOST_SECONDS)] = None
    friction: Annotated[float | None, POSITIVE] = None
    delay: Annotated[float, Limits(at_least=0.0, at_most=MOST_DELAY)] = 0.0
    latency: Annotated[float, Limits(at_least=0.0, at_most=MOST_DELAY)] = 0.0
    noise: Annotated[float, NOT_NEGATIVE] = 0.0
    push_scale: Annotated[float, NOT_NEGATIVE] = 1.0
    randomize: bool = False
    command: tuple[float, ...] | None = None
    seconds: Annotated[float | None, Limits(above=0.0, at_most=MOST_SECONDS)] = None

    def __post_init__(self) -> None:
        check_fields(self)

    def in_steps(self, timestep: float) -> "Conditions":
        """Return the same with delay and latency as they can be simulated: in whole steps of `timestep`, s.

        Raises:
            ConfigError: One is too short for that.
        """
        step, rounded = 1e3 * timestep, {}
        for name in ("delay", "latency"):
            asked = getattr(self, name)
            rounded[name] = round(asked / step) * step
            if asked and not rounded[name]:
                raise ConfigError(
                    f"{name} {asked:g} ms: less than half a simulation step, which is {step:g} ms; take {step:g}, or "
                    f"shorter steps as well: --timestep {1e-3 * asked:g}"
                )
        return replace(self, **rounded)

    def apply(self, robot: "Robot") -> "Robot":
        """Return the robot with a model under these conditions; the given one does not change.

        Raises:
            ConfigError: The timestep does not divide the control period.
        """
        import mujoco

        model = copy.deepcopy(robot.model)
        substeps = robot.substeps
        if self.timestep is not None:
            substeps = max(1, round(min(robot.control_dt / self.timestep, MOST_SUBSTEPS)))
            if abs(substeps * self.timestep - robot.control_dt) > 1e-6 * robot.control_dt:
                raise ConfigError(
                    f"timestep {self.timestep:g} s: does not divide the control period of {robot.control_dt:g} s; "
                    f"take {robot.control_dt / substeps:.6g}"
                )
            model.opt.timestep = self.timestep
        if self.solver is not None:
            model.opt.solver = getattr(mujoco.mjtSolver, f"mjSOL_{self.solver.upper()}")
        if self.cone is not None:
            model.opt.cone = getattr(mujoco.mjtCone, f"mjCONE_{self.cone.upper()}")
        if self.iterations is not None:
            model.opt.iterations = self.iterations
        if self.friction is not None:
            model.pair_friction[:, :2] = self.friction
            model.geom_friction[:, 0] = self.friction
        return replace(robot, model=model, substeps=substeps)
