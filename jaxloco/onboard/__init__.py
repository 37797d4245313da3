"""The robot's side: run an exported policy with NumPy alone.

    from jaxloco.onboard import Policy

    policy = Policy.load("policy")
    policy.reset()
    readings = {"pitch": 0.0, "ground_position": 0.0, "pitch_velocity": 0.0, "ground_velocity": 0.0}
    command = policy.act(readings)["ground_velocity_target"]

Nothing in here imports anything but NumPy, the standard library and `jaxloco.errors`.
"""

from jaxloco.errors import BundleError, JaxlocoError, UnknownNameError
from jaxloco.onboard.bundle import Bundle, read_bundle, write_bundle
from jaxloco.onboard.loop import Client, LiveClient, Loop, LoopReport, Reading
from jaxloco.onboard.policy import InputError, Policy
from jaxloco.onboard.recorder import Recorder
from jaxloco.onboard.safety import Cause, Guard, SafetyConfig
from jaxloco.onboard.spec import PolicySpec

__all__ = [
    "Bundle",
    "BundleError",
    "Cause",
    "Client",
    "Guard",
    "InputError",
    "JaxlocoError",
    "LiveClient",
    "Loop",
    "LoopReport",
    "Policy",
    "PolicySpec",
    "Reading",
    "Recorder",
    "SafetyConfig",
    "UnknownNameError",
    "read_bundle",
    "write_bundle",
]
