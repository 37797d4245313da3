"""The description of a policy: inputs, history, normalizer, network, action pipeline, outputs.

This is the one schema of the policy bundle. The robot's side (`jaxloco.onboard.policy`) and the training side
(environment and exporter) use the same dataclasses. Everything is checked at construction: a wrong value
raises `BundleError` with the key, what was expected and what was found.
"""

from jaxloco.onboard.spec.fields import FLOAT32_MAX, MAX_HISTORY, Values, expand, show
from jaxloco.onboard.spec.networks import (
    ACTIVATIONS,
    CellSpec,
    ConvolutionSpec,
    EstimateSpec,
    EstimatorSpec,
    LayerSpec,
    NetworkSpec,
    NormalizerSpec,
    PlanSpec,
)
from jaxloco.onboard.spec.policy import PolicySpec, check_schema
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
from jaxloco.onboard.spec.stages import (
    Clip,
    Cycle,
    Delay,
    Follow,
    FootTrajectories,
    Integrate,
    Leg,
    LowPass,
    Scale,
    Stage,
    widths,
)

__all__ = [
    "ACTIVATIONS",
    "FLOAT32_MAX",
    "FOOT_FREQUENCIES",
    "FOOT_PHASES",
    "GAIT_CLOCK",
    "GAIT_FREQUENCY",
    "LAST_ACTION",
    "MAX_HISTORY",
    "MOTION_JOINTS",
    "MOTION_ORIENTATION",
    "MOTION_VELOCITIES",
    "CellSpec",
    "Clip",
    "ConvolutionSpec",
    "Cycle",
    "Delay",
    "EstimateSpec",
    "EstimatorSpec",
    "Follow",
    "FootTrajectories",
    "InputSpec",
    "Integrate",
    "LayerSpec",
    "Leg",
    "LowPass",
    "MotionSpec",
    "NetworkSpec",
    "NormalizerSpec",
    "OutputSpec",
    "PlanSpec",
    "PolicySpec",
    "Rest",
    "Scale",
    "Stage",
    "Values",
    "check_schema",
    "expand",
    "show",
    "widths",
]
